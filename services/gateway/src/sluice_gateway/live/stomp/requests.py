"""Frames of a client as requests, checked as far as the frame alone allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sluice_common.security.refusals import ambiguous_credentials
from sluice_core.errors import FailedPrecondition, InvalidArgument, Unimplemented
from sluice_gateway.live.stomp.frames import Frame, FrameError
from sluice_gateway.live.topics import Topic, parse_cursor, parse_topic

VERSION: Final = "1.2"
_MAX_ID_CHARS: Final = 128
_AUTHORIZATION: Final = ("Authorization", "authorization")
"""Headers of STOMP are case-sensitive; clients in use write both."""


@dataclass(frozen=True, slots=True)
class Connect:
    """CONNECT: to be answered by `StompSession.accept` or `refuse`."""

    authorization: str | None
    heart_beat: str | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE: to be answered by `StompSession.subscribed` or `refuse`.

    `after`: sequence of the newest update that the client has.
    """

    subscription_id: str
    topic: Topic
    after: int | None
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE: the session has answered it; there must be no more messages."""

    subscription_id: str


def read_connect(frame: Frame) -> Connect:
    """Raise if the session cannot begin with this frame.

    `FrameError`, `FailedPrecondition`, or `Unauthenticated` AMBIGUOUS_CREDENTIALS.

    `host` is required by STOMP 1.2, but not sent by stompjs unless it is set; there are no virtual
    hosts here that it could choose from.
    """
    if frame.command not in ("CONNECT", "STOMP"):
        raise FrameError("BAD_FRAME", "A session begins with CONNECT; send it first.")
    versions = (frame.header("accept-version") or "1.0").split(",")
    if VERSION not in versions:
        raise FailedPrecondition(
            "UNSUPPORTED_VERSION", "This server speaks STOMP 1.2; send accept-version:1.2."
        )
    sent = [value for name in _AUTHORIZATION if (value := frame.header(name)) is not None]
    if len(sent) > 1:
        raise ambiguous_credentials()
    return Connect(sent[0] if sent else None, frame.header("heart-beat"))


def read_subscribe(frame: Frame) -> Subscribe:
    """Raise `FrameError`, `InvalidArgument` or `Unimplemented` if it cannot be granted."""
    if (frame.header("ack") or "auto") != "auto":
        raise Unimplemented(
            "ACK_UNSUPPORTED",
            "Messages need no acknowledgement; subscribe with ack:auto or without ack.",
            field="ack",
        )
    return Subscribe(
        read_id(frame),
        parse_topic(_required(frame, "destination")),
        parse_cursor(frame.header("after"), "after"),
        frame.header("receipt"),
    )


def read_receipt(frame: Frame) -> str | None:
    """Return the receipt that a frame asks for. It comes back in a frame, which has a limit."""
    receipt = frame.header("receipt")
    if receipt is not None and len(receipt) > _MAX_ID_CHARS:
        raise InvalidArgument("BAD_RECEIPT", f"The receipt has more than {_MAX_ID_CHARS} signs.")
    return receipt


def read_id(frame: Frame) -> str:
    """Return the id of the subscription that a frame is about."""
    subscription_id = _required(frame, "id")
    if len(subscription_id) > _MAX_ID_CHARS:
        # It comes back in each message, which has a limit.
        raise InvalidArgument("BAD_SUBSCRIPTION_ID", f"The id has more than {_MAX_ID_CHARS} signs.")
    return subscription_id


def unsupported(frame: Frame) -> Unimplemented:
    """Return the refusal of the commands that this server has no use for."""
    return Unimplemented(
        "COMMAND_UNSUPPORTED",
        f"{frame.command} is not supported: messages go to clients only, and need no ACK;"
        " post progress to /commands/upload/progress.",
    )


def _required(frame: Frame, name: str) -> str:
    value = frame.header(name)
    if not value:
        raise FrameError("BAD_FRAME", f"Not a STOMP 1.2 frame: {frame.command} has no {name}.")
    return value
