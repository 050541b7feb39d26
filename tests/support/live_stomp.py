"""A STOMP session with a driven clock, and a client's view of it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sluice_core.access.principal import Principal
from sluice_core.live.log import Entry
from sluice_core.live.updates import Update
from sluice_gateway.live.clocks import Instant
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.stomp.frames import Frame, encode_frame
from sluice_gateway.live.stomp.parser import FrameParser
from sluice_gateway.live.stomp.requests import Connect, Subscribe
from sluice_gateway.live.stomp.session import StompSession
from sluice_gateway.live.token_end import TokenEnd

ANN = Principal("acme", "ann", frozenset())
OPTIONS = LiveOptions()
ENTRY = Entry(42, Update("j", "p", "UPLOADING", 10, 100, 1))


@dataclass
class DrivenSession:
    """A session, its clock, and a client's view of it."""

    options: LiveOptions = OPTIONS
    is_key_withdrawn: bool = False
    monotonic: float = 100.0
    unix: float = 1_000_000.0

    def __post_init__(self) -> None:
        self.session = StompSession(self.options, self.now)
        self.parser = FrameParser()

    @property
    def now(self) -> Instant:
        return Instant(self.monotonic, self.unix)

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.unix += seconds
        self.session.on_time(self.now)

    def advance_to_next(self) -> float:
        """Let time pass until something is due; return the seconds."""
        seconds = self.session.due_in(self.now)
        self.advance(seconds)
        return seconds

    def send(self, *frames: Frame | bytes) -> None:
        """Send frames as one message each."""
        for frame in frames:
            data = frame if isinstance(frame, bytes) else encode_frame(frame)
            self.session.feed(data, self.now)

    def ask(self, *frames: Frame | bytes) -> object:
        """Send frames, and return the request that the owner has to answer."""
        self.send(*frames)
        return self.session.next_request(self.now)

    def connect(self, principal: Principal = ANN, *headers: tuple[str, str]) -> Frame:
        assert isinstance(self.ask(connect_frame(*headers)), Connect)
        self.accept(principal)
        (connected,) = self.received()
        return connected

    def accept(self, principal: Principal) -> None:
        """Answer CONNECT."""
        token = TokenEnd(
            principal, self.options.token_warning_seconds, lambda: self.is_key_withdrawn
        )
        self.session.accept(token, self.now)

    def subscribe(self, destination: str, subscription_id: str = "s1") -> None:
        request = self.ask(subscribe_frame(destination, subscription_id))
        assert isinstance(request, Subscribe)
        self.session.subscribed(request, self.now)

    def output(self) -> list[bytes]:
        return self.session.take_output(self.now)

    def received(self) -> list[Frame]:
        frames = []
        for data in self.output():
            self.parser.feed(data)
            while (frame := self.parser.next_frame()) is not None:
                frames.append(frame)
        return frames

    def error(self) -> Frame:
        """Return the ERROR frame with which the session has ended."""
        assert self.session.close is not None
        frame = self.received()[-1]
        assert frame.command == "ERROR"
        assert frame.header("message") == self.session.close.word
        assert json.loads(frame.body)["reason"] == self.session.close.word
        return frame


def connect_frame(*headers: tuple[str, str]) -> Frame:
    return Frame("CONNECT", (("accept-version", "1.1,1.2"), ("host", "sluice"), *headers))


def subscribe_frame(destination: str, subscription_id: str = "s1", *more: tuple[str, str]) -> Frame:
    return Frame("SUBSCRIBE", (("id", subscription_id), ("destination", destination), *more))
