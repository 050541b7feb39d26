"""Rules of a STOMP session, without I/O and with a driven clock."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.errors import NotFound, SluiceError, Unauthenticated, Unavailable
from sluice_core.rates.model import SECOND_US, Rate
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.stomp.closing import CloseCode, restart
from sluice_gateway.live.stomp.frames import MAX_FRAME_BYTES, Frame, encode_frame
from sluice_gateway.live.stomp.requests import Connect, Subscribe, Unsubscribe
from sluice_gateway.live.topics import JobTopic, UserTopic
from support.live_stomp import (
    ANN,
    ENTRY,
    OPTIONS,
    DrivenSession,
    connect_frame,
    subscribe_frame,
)


@pytest.fixture
def driven() -> DrivenSession:
    return DrivenSession()


@pytest.fixture
def connected(driven: DrivenSession) -> DrivenSession:
    driven.connect()
    return driven


# -- connecting


@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_connect_asks_for_authentication(driven: DrivenSession, command: str, name: str) -> None:
    frame = replace(connect_frame((name, "Bearer x")), command=command)
    assert driven.ask(frame) == Connect("Bearer x", None)
    assert driven.received() == []
    driven.accept(ANN)
    (answer,) = driven.received()
    assert answer.command == "CONNECTED"
    assert answer.header("version") == "1.2"


def test_host_may_be_left_out(driven: DrivenSession) -> None:
    """stompjs sends it only if it is among its `connectHeaders`."""
    assert isinstance(driven.ask(Frame("CONNECT", (("accept-version", "1.2"),))), Connect)


def test_nothing_is_read_before_the_answer(driven: DrivenSession) -> None:
    """A client may send SUBSCRIBE right behind CONNECT; it waits for the authentication."""
    assert isinstance(driven.ask(connect_frame(), subscribe_frame("/topic/job/j")), Connect)
    assert driven.session.next_request(driven.now) is None
    driven.accept(ANN)
    assert isinstance(driven.session.next_request(driven.now), Subscribe)


@pytest.mark.parametrize(
    ("headers", "reason", "code"),
    [
        ((("host", "h"),), "UNSUPPORTED_VERSION", CloseCode.POLICY_VIOLATION),
        (
            (("accept-version", "1.0,1.1"), ("host", "h")),
            "UNSUPPORTED_VERSION",
            CloseCode.POLICY_VIOLATION,
        ),
        (
            (("accept-version", "11.2"), ("host", "h")),
            "UNSUPPORTED_VERSION",
            CloseCode.POLICY_VIOLATION,
        ),
        (
            (("accept-version", "1.2"), ("host", "h"), ("heart-beat", "1000")),
            "BAD_FRAME",
            CloseCode.PROTOCOL_ERROR,
        ),
        (
            (("accept-version", "1.2"), ("host", "h"), ("heart-beat", "-1,0")),
            "BAD_FRAME",
            CloseCode.PROTOCOL_ERROR,
        ),
    ],
)
def test_bad_connect_is_refused(
    driven: DrivenSession, headers: tuple[tuple[str, str], ...], reason: str, code: CloseCode
) -> None:
    assert driven.ask(Frame("CONNECT", headers)) is None
    frame = driven.error()
    assert frame.header("message") == reason
    assert driven.session.close is not None
    assert driven.session.close.code == code
    assert (frame.header("version") == "1.2") == (reason == "UNSUPPORTED_VERSION")


@pytest.mark.parametrize("command", ["SUBSCRIBE", "DISCONNECT", "SEND", "CONNECTED", "MESSAGE"])
def test_other_frames_before_connect_are_refused(driven: DrivenSession, command: str) -> None:
    assert driven.ask(Frame(command)) is None
    assert driven.error().header("message") == "BAD_FRAME"


def test_refused_credentials_end_the_session(driven: DrivenSession) -> None:
    driven.ask(connect_frame())
    driven.session.refuse(Unauthenticated("BAD_TOKEN", "No."))
    assert driven.error().header("message") == "BAD_TOKEN"
    assert driven.session.close is not None
    assert driven.session.close.code == CloseCode.POLICY_VIOLATION
    driven.accept(ANN)
    assert driven.received() == []


def test_second_connect_is_refused(connected: DrivenSession) -> None:
    assert connected.ask(connect_frame()) is None
    assert connected.error().header("message") == "BAD_FRAME"


def test_socket_without_connect_is_closed_in_time(driven: DrivenSession) -> None:
    assert driven.advance_to_next() == OPTIONS.connect_seconds
    assert driven.error().header("message") == "CONNECT_TIMEOUT"


def test_slow_authentication_counts_as_connecting(driven: DrivenSession) -> None:
    driven.ask(connect_frame())
    driven.advance_to_next()
    assert driven.error().header("message") == "CONNECT_TIMEOUT"
    driven.accept(ANN)
    assert driven.received() == []


# -- subscriptions, receipts, the end


def test_messages_follow_a_granted_subscription(connected: DrivenSession) -> None:
    request = connected.ask(
        subscribe_frame("/topic/job/j-1", "a:b", ("receipt", "r:1"), ("after", "1764486000000000"))
    )
    assert request == Subscribe("a:b", JobTopic("j-1"), 1764486000000000, "r:1")
    connected.session.deliver("a:b", ENTRY, is_snapshot=False)
    assert connected.received() == [], "not granted yet"
    connected.session.subscribed(request, connected.now)
    connected.session.deliver("a:b", ENTRY, is_snapshot=False)
    connected.session.deliver("a:b", ENTRY, is_snapshot=True)
    receipt, change, snapshot = connected.received()
    assert (receipt.command, receipt.header("receipt-id")) == ("RECEIPT", "r:1")
    assert change.command == "MESSAGE"
    assert change.header("subscription") == "a:b"
    assert change.header("destination") == "/topic/job/j-1"
    assert (change.header("kind"), snapshot.header("kind")) == ("change", "snapshot")
    assert change.header("message-id") != snapshot.header("message-id")
    assert json.loads(change.body) == {
        "jobId": "j",
        "photoId": "p",
        "status": "UPLOADING",
        "progress": 10,
        "sequence": 42,
        "bytesSent": 10,
        "bytesTotal": 100,
        "reason": None,
    }


def test_refused_subscription_names_its_receipt(connected: DrivenSession) -> None:
    connected.ask(subscribe_frame("/topic/job/j", "s", ("receipt", "7")))
    connected.session.refuse(NotFound("JOB_NOT_FOUND", "No.", field="jobId"))
    frame = connected.error()
    assert frame.header("receipt-id") == "7"
    assert json.loads(frame.body)["field"] == "jobId"
    assert connected.session.subscriptions == {}


def test_unsubscribed_topic_gets_no_messages(connected: DrivenSession) -> None:
    connected.subscribe("/user/queue/progress")
    assert connected.session.subscriptions == {"s1": UserTopic()}
    request = connected.ask(Frame("UNSUBSCRIBE", (("id", "s1"), ("receipt", "u"))))
    assert request == Unsubscribe("s1")
    connected.session.deliver("s1", ENTRY, is_snapshot=False)
    (receipt,) = connected.received()
    assert receipt.header("receipt-id") == "u"
    connected.subscribe("/user/queue/progress")


def test_disconnect_gets_its_receipt_before_the_end(connected: DrivenSession) -> None:
    assert connected.ask(Frame("DISCONNECT", (("receipt", "bye"),)), subscribe_frame("x")) is None
    (receipt,) = connected.received()
    assert receipt.header("receipt-id") == "bye"
    assert connected.session.close is not None
    assert connected.session.close.code == CloseCode.NORMAL


LONG = "x" * 129


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (Frame("SUBSCRIBE", (("destination", "/topic/job/j"),)), "BAD_FRAME"),
        (Frame("SUBSCRIBE", (("id", "s"),)), "BAD_FRAME"),
        (subscribe_frame("/topic/job/j", LONG), "BAD_SUBSCRIPTION_ID"),
        (subscribe_frame("/topic/job/"), "UNKNOWN_TOPIC"),
        (subscribe_frame("/topic/job/j/k"), "UNKNOWN_TOPIC"),
        (subscribe_frame("/topic/job/" + "j" * 65), "UNKNOWN_TOPIC"),
        (subscribe_frame("/topic/job/j\n"), "UNKNOWN_TOPIC"),
        (subscribe_frame("/topic/job/../j"), "UNKNOWN_TOPIC"),
        (subscribe_frame("/topic/job/*"), "UNKNOWN_TOPIC"),
        (subscribe_frame("/user/bob/queue/progress"), "UNKNOWN_TOPIC"),
        (subscribe_frame("/topic/job/j", "s", ("ack", "client")), "ACK_UNSUPPORTED"),
        (subscribe_frame("/topic/job/j", "s", ("after", "-1")), "BAD_SEQUENCE"),
        (subscribe_frame("/topic/job/j", "s", ("after", "1e3")), "BAD_SEQUENCE"),
        (subscribe_frame("/topic/job/j", "s", ("after", "9" * 17)), "BAD_SEQUENCE"),
        (subscribe_frame("/topic/job/j", "s", ("after", "\u0661")), "BAD_SEQUENCE"),
        (subscribe_frame("/topic/job/j", "s", ("receipt", LONG)), "BAD_RECEIPT"),
        (Frame("UNSUBSCRIBE", (("id", "never"),)), "UNKNOWN_SUBSCRIPTION"),
        (Frame("UNSUBSCRIBE"), "BAD_FRAME"),
        (Frame("SEND", (("destination", "/topic/job/j"),), b"x"), "COMMAND_UNSUPPORTED"),
        (Frame("ACK", (("id", "1"),)), "COMMAND_UNSUPPORTED"),
        (Frame("BEGIN", (("transaction", "1"),)), "COMMAND_UNSUPPORTED"),
        (Frame("MESSAGE"), "COMMAND_UNSUPPORTED"),
        (Frame("ERROR"), "COMMAND_UNSUPPORTED"),
    ],
)
def test_frame_that_cannot_be_granted_ends_the_session(
    connected: DrivenSession, frame: Frame, reason: str
) -> None:
    assert connected.ask(frame) is None
    assert connected.error().header("message") == reason
    assert connected.ask(subscribe_frame("/topic/job/j")) is None, "nothing is read after ERROR"
    assert connected.received() == []


def test_empty_after_is_a_snapshot(connected: DrivenSession) -> None:
    request = connected.ask(subscribe_frame("/topic/job/j", "s", ("after", "")))
    assert isinstance(request, Subscribe)
    assert request.after is None


def test_two_subscriptions_of_one_id_are_refused(connected: DrivenSession) -> None:
    connected.subscribe("/topic/job/j")
    assert connected.ask(subscribe_frame("/topic/job/k")) is None
    assert connected.error().header("message") == "DUPLICATE_SUBSCRIPTION"


def test_subscriptions_of_a_session_are_bounded() -> None:
    driven = DrivenSession(LiveOptions(max_subscriptions=2))
    driven.connect()
    driven.subscribe("/topic/job/a", "1")
    driven.subscribe("/topic/job/b", "2")
    assert driven.ask(subscribe_frame("/topic/job/c", "3")) is None
    assert driven.error().header("message") == "TOO_MANY_SUBSCRIPTIONS"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"SUBSCRIBE\nid\n\n\0", CloseCode.PROTOCOL_ERROR),
        (b"SEND\n\n" + b"x" * MAX_FRAME_BYTES, CloseCode.TOO_LARGE),
    ],
)
def test_bytes_that_are_no_frame_end_the_session(
    connected: DrivenSession, sent: bytes, code: CloseCode
) -> None:
    assert connected.ask(sent) is None
    connected.error()
    assert connected.session.close is not None
    assert connected.session.close.code == code


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (Unavailable("REDIS_UNAVAILABLE", "."), CloseCode.TRY_AGAIN_LATER, "REDIS_UNAVAILABLE"),
        (
            Unavailable("STOPPING", ".", retry_after_seconds=1.25),
            CloseCode.TRY_AGAIN_LATER,
            "STOPPING retry-after-ms=1250",
        ),
        (Unauthenticated("TOKEN_EXPIRED", "."), CloseCode.TOKEN_EXPIRED, "TOKEN_EXPIRED"),
        (NotFound("JOB_NOT_FOUND", "."), CloseCode.POLICY_VIOLATION, "JOB_NOT_FOUND"),
    ],
)
def test_close_code_says_whether_to_come_back(
    connected: DrivenSession, error: SluiceError, code: CloseCode, text: str
) -> None:
    connected.session.refuse(error)
    assert connected.session.close is not None
    assert (connected.session.close.code, connected.session.close.reason) == (code, text)


def test_stopping_replica_sends_no_error(connected: DrivenSession) -> None:
    connected.session.end(restart(3.5))
    assert connected.received() == []
    assert connected.session.close is not None
    assert connected.session.close.code == CloseCode.RESTART
    assert connected.session.close.reason == "RESTART retry-after-ms=3500"


# -- what a client may send


def test_client_that_sends_too_fast_is_ended() -> None:
    driven = DrivenSession(LiveOptions(frames=Rate(10, SECOND_US, burst=5)))
    driven.connect()
    driven.send(*[b"\n"] * 4)
    assert driven.session.close is None
    driven.send(b"\n")
    assert driven.error().header("message") == "TOO_MANY_FRAMES"


def test_frames_in_one_message_count_each() -> None:
    driven = DrivenSession(LiveOptions(frames=Rate(10, SECOND_US, burst=5)))
    driven.connect()
    pairs = (
        encode_frame(subscribe_frame("/user/queue/session"))
        + encode_frame(Frame("UNSUBSCRIBE", (("id", "s1"),)))
    ) * 3
    driven.send(pairs)
    while (request := driven.session.next_request(driven.now)) is not None:
        if isinstance(request, Subscribe):
            driven.session.subscribed(request, driven.now)
    assert driven.error().header("message") == "TOO_MANY_FRAMES"


def test_allowance_comes_back_with_time() -> None:
    driven = DrivenSession(LiveOptions(frames=Rate(10, SECOND_US, burst=5)))
    driven.connect()
    for _ in range(100):
        driven.advance(0.1)
        driven.send(b"\n")
    assert driven.session.close is None


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5), st.booleans())
def test_any_bytes_end_in_order(data: bytes, cuts: list[int], connect: bool) -> None:
    """Whatever is sent: no exception, and every frame that comes back can be read."""
    driven = DrivenSession()
    if connect:
        driven.connect()
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        if driven.ask(data[start:stop]) is not None:
            driven.session.refuse(NotFound("JOB_NOT_FOUND", "No."))
    if driven.session.close is not None:
        assert [frame.command for frame in driven.received()][-1:] == ["ERROR"]
    driven.advance(1000.0)
