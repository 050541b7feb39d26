"""Times of a STOMP session: heart-beats and the end of the token, with a driven clock."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sluice_core.access.principal import Principal
from sluice_gateway.live.stomp.closing import CloseCode
from sluice_gateway.live.stomp.heart_beats import HeartBeats, negotiate
from sluice_gateway.live.stomp.requests import Subscribe
from sluice_gateway.live.topics import JobTopic, SessionTopic
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


# -- heart-beats


@pytest.mark.parametrize(
    ("client", "server_ms", "agreed"),
    [
        (None, 10_000, HeartBeats(None, None)),
        ("0,0", 10_000, HeartBeats(None, None)),
        ("5000,0", 10_000, HeartBeats(None, 10.0)),
        ("0,5000", 10_000, HeartBeats(10.0, None)),
        ("20000,30000", 10_000, HeartBeats(30.0, 20.0)),
        ("20000,30000", 0, HeartBeats(None, None)),
    ],
)
def test_heart_beats_are_negotiated(client: str | None, server_ms: int, agreed: HeartBeats) -> None:
    assert negotiate(client, server_ms) == agreed


def test_idle_session_sends_heart_beats(driven: DrivenSession) -> None:
    answer = driven.connect(ANN, ("heart-beat", "0,5000"))
    assert answer.header("heart-beat") == "10000,10000"
    for _ in range(3):
        assert driven.advance_to_next() == pytest.approx(10.0)
        assert driven.output() == [b"\n"]
    driven.advance(6.0)
    driven.subscribe("/user/queue/progress")
    driven.session.deliver("s1", ENTRY, is_snapshot=False)
    driven.received()
    assert driven.session.due_in(driven.now) == pytest.approx(10.0), "a message is a heart-beat"


def test_silent_client_is_told_to_come_back(driven: DrivenSession) -> None:
    driven.connect(ANN, ("heart-beat", "8000,0"))
    assert driven.advance_to_next() == pytest.approx(20.0), "twice the agreed interval"
    assert driven.session.close is not None
    assert driven.session.close.code == CloseCode.TRY_AGAIN_LATER
    assert driven.session.close.reason == "HEART_BEAT_MISSED"


def test_heart_beats_keep_a_session_open(driven: DrivenSession) -> None:
    driven.connect(ANN, ("heart-beat", "10000,0"))
    for _ in range(100):
        driven.advance(19.0)
        driven.send(b"\n")
    assert driven.session.close is None


def test_client_is_not_silent_while_it_waits_for_an_answer(driven: DrivenSession) -> None:
    """Its heart-beats are not read before SUBSCRIBE is answered, which may wait for its turn."""
    driven.connect(ANN, ("heart-beat", "10000,0"))
    request = driven.ask(subscribe_frame("/topic/job/job-1"))
    assert isinstance(request, Subscribe)
    driven.advance(60.0)
    driven.session.subscribed(request, driven.now)
    assert driven.advance_to_next() == pytest.approx(20.0), "counted from the answer"
    assert driven.session.close is not None
    assert driven.session.close.reason == "HEART_BEAT_MISSED"


def test_session_without_heart_beats_stays_open(connected: DrivenSession) -> None:
    for _ in range(1_000):
        assert connected.advance_to_next() == OPTIONS.clock_check_seconds
    assert connected.session.close is None
    assert connected.output() == []


# -- the token's end


def expiring(driven: DrivenSession, seconds: float) -> Principal:
    return replace(ANN, expires_at=driven.unix + seconds)


def test_token_end_is_announced_and_ends_the_session(driven: DrivenSession) -> None:
    driven.connect(expiring(driven, 90.0))
    driven.subscribe("/user/queue/session")
    driven.subscribe("/user/queue/progress", "other")
    driven.received()
    assert driven.advance_to_next() == pytest.approx(30.0)
    (warning,) = driven.received()
    assert warning.header("destination") == "/user/queue/session"
    assert json.loads(warning.body) == {"type": "TOKEN_EXPIRES", "secondsLeft": 60}
    assert driven.advance_to_next() == pytest.approx(60.0)
    assert driven.error().header("message") == "TOKEN_EXPIRED"
    assert driven.session.close is not None
    assert driven.session.close.code == CloseCode.TOKEN_EXPIRED


def test_late_subscriber_hears_of_the_tokens_end_too(driven: DrivenSession) -> None:
    driven.connect(expiring(driven, 30.0))
    driven.subscribe("/user/queue/session")
    (warning,) = driven.received()
    assert json.loads(warning.body)["secondsLeft"] == 30


def test_token_that_ended_before_connect_ends_it(driven: DrivenSession) -> None:
    driven.ask(connect_frame())
    driven.accept(expiring(driven, -1.0))
    assert driven.error().header("message") == "TOKEN_EXPIRED"


def test_withdrawn_key_ends_the_session(driven: DrivenSession) -> None:
    """Whoever stole a key could sign a token for years; noticed within a minute."""
    driven.connect(expiring(driven, 1e9))
    driven.advance(60.0)
    assert driven.session.close is None
    driven.is_key_withdrawn = True
    assert driven.advance_to_next() <= 60.0
    assert driven.error().header("message") == "TOKEN_EXPIRED"


def test_clock_that_is_set_forward_ends_the_session(driven: DrivenSession) -> None:
    """The machine slept, or its clock was corrected: noticed within a minute."""
    driven.connect(expiring(driven, 3600.0))
    driven.unix += 4000.0
    assert driven.advance_to_next() == 0.0
    assert driven.error().header("message") == "TOKEN_EXPIRED"


def test_subscriptions_are_told_apart_by_topic(connected: DrivenSession) -> None:
    connected.subscribe("/user/queue/session", "a")
    connected.subscribe("/topic/job/j", "b")
    assert connected.session.subscriptions == {"a": SessionTopic(), "b": JobTopic("j")}
