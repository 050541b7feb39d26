"""A STOMP 1.2 session of the server, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from sluice_common.security.refusals import token_expired
from sluice_core.errors import (
    AlreadyExists,
    DeadlineExceeded,
    NotFound,
    ResourceExhausted,
    SluiceError,
)
from sluice_core.live.log import Entry
from sluice_gateway.live.clocks import Instant
from sluice_gateway.live.messages import to_json, update_message
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.stomp.allowance import FrameAllowance
from sluice_gateway.live.stomp.closing import (
    DISCONNECTED,
    HEART_BEAT_MISSED,
    Close,
    close_of,
)
from sluice_gateway.live.stomp.frames import (
    MAX_FRAME_BYTES,
    Frame,
    FrameError,
    encode_frame,
)
from sluice_gateway.live.stomp.heart_beats import HeartBeats, negotiate
from sluice_gateway.live.stomp.parser import FrameParser
from sluice_gateway.live.stomp.requests import (
    VERSION,
    Connect,
    Subscribe,
    Unsubscribe,
    read_connect,
    read_id,
    read_receipt,
    read_subscribe,
    unsupported,
)
from sluice_gateway.live.token_end import TokenEnd
from sluice_gateway.live.topics import SessionTopic, Topic

Request = Connect | Subscribe | Unsubscribe

_HEART_BEAT: Final = b"\n"
_JSON: Final = ("content-type", "application/json;charset=utf-8")


class _State(Enum):
    CONNECTING = auto()
    """Until CONNECT, and until it is answered."""
    OPEN = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class _Answer:
    """A request that the owner has to answer before the next one is read."""

    receipt: str | None


class StompSession:
    """The rules of a session: what each frame is answered with, and what is due at which time.

    The owner does the I/O, in this order, until `close` is set; then it sends what is left, and
    closes the WebSocket:

        session.feed(message, now)
        while (request := session.next_request(now)) is not None:
            ...                              # authenticate, or ask who may hear the topic
            session.accept(principal, now)   # or subscribed(request, now), or refuse(error)
        for frame in session.take_output(now):
            ...                              # send
        ...                                  # wait at most session.due_in(now) seconds
        session.on_time(now)

    Requests are answered one at a time and in order, as STOMP asks of receipts. Errors of the
    client never raise: they become an ERROR frame and an end.
    """

    def __init__(self, options: LiveOptions, now: Instant) -> None:
        self.close: Close | None = None
        """How the session ends, once it does."""
        self._options = options
        self._state = _State.CONNECTING
        self._parser = FrameParser(MAX_FRAME_BYTES)
        self._asked: _Answer | None = None
        self._subscriptions: dict[str, Topic] = {}
        self._output: list[bytes] = []
        self._messages = 0
        self._beats = HeartBeats(None, None)
        self._opened_at = self._received_at = self._sent_at = now.monotonic
        self._allowance = FrameAllowance(options.frames, now)
        self._token: TokenEnd | None = None

    @property
    def subscriptions(self) -> Mapping[str, Topic]:
        """The topics by the ids of their subscriptions."""
        return self._subscriptions

    # -- input

    def feed(self, data: bytes, now: Instant) -> None:
        """Take a message of the WebSocket. Messages need not be whole frames, nor single ones."""
        self._received_at = now.monotonic
        if self.close is not None:
            return
        if not self._allowance.take_message(now):
            self.refuse(_too_fast())
            return
        self._parser.feed(data)

    def next_request(self, now: Instant) -> Request | None:
        """Return the next request, None if there is none yet or the session ends."""
        while self.close is None and self._asked is None:
            try:
                frame = self._parser.next_frame()
            except FrameError as error:
                self.refuse(error)
                return None
            if frame is None:
                return None
            if not self._allowance.take_frame(now):
                self.refuse(_too_fast())
                return None
            request = self._handle(frame)
            if request is not None:
                return request
        return None

    def _handle(self, frame: Frame) -> Request | None:
        try:
            self._asked = _Answer(read_receipt(frame))
            request = self._read(frame)
        except SluiceError as error:
            self.refuse(error)
            return None
        if request is None or isinstance(request, Unsubscribe):
            self._answer()
        return request

    def _read(self, frame: Frame) -> Request | None:
        if self._state is _State.CONNECTING:
            connect = read_connect(frame)
            self._beats = negotiate(connect.heart_beat, self._options.heart_beat_ms)
            return connect
        if frame.command == "SUBSCRIBE":
            return self._read_subscribe(frame)
        if frame.command == "UNSUBSCRIBE":
            unsubscribe = Unsubscribe(read_id(frame))
            if self._subscriptions.pop(unsubscribe.subscription_id, None) is None:
                raise NotFound("UNKNOWN_SUBSCRIPTION", "There is no subscription of this id.")
            return unsubscribe
        if frame.command == "DISCONNECT":
            self._answer()
            self.end(DISCONNECTED)
            return None
        if frame.command in ("CONNECT", "STOMP"):
            raise FrameError("BAD_FRAME", "The session is connected already; open another one.")
        raise unsupported(frame)

    def _read_subscribe(self, frame: Frame) -> Subscribe:
        request = read_subscribe(frame)
        if request.subscription_id in self._subscriptions:
            raise AlreadyExists(
                "DUPLICATE_SUBSCRIPTION", "A subscription has this id; choose another one."
            )
        if len(self._subscriptions) >= self._options.max_subscriptions:
            raise ResourceExhausted(
                "TOO_MANY_SUBSCRIPTIONS",
                f"A session has at most {self._options.max_subscriptions} subscriptions;"
                " subscribe to /user/queue/progress instead of single jobs.",
            )
        return request

    # -- answers of the owner

    def accept(self, token: TokenEnd, now: Instant) -> None:
        """Answer CONNECT: the session is open. No-op if it has ended meanwhile."""
        if self.close is not None:
            return
        self._state = _State.OPEN
        self._token = token
        offer = self._options.heart_beat_ms
        headers = (("version", VERSION), ("server", "sluice"), ("heart-beat", f"{offer},{offer}"))
        self._send(Frame("CONNECTED", headers))
        self._asked = None
        self._received_at = now.monotonic
        self.on_time(now)

    def subscribed(self, request: Subscribe, now: Instant) -> None:
        """Answer SUBSCRIBE: messages may follow. No-op if the session has ended meanwhile."""
        if self.close is not None:
            return
        self._received_at = now.monotonic
        self._subscriptions[request.subscription_id] = request.topic
        self._answer()
        token = self._token
        if isinstance(request.topic, SessionTopic) and token is not None and token.has_warned:
            self._message(request.subscription_id, token.notice(now.unix))

    def refuse(self, error: SluiceError) -> None:
        """End the session with an ERROR frame, as STOMP asks of every error."""
        headers = [("message", error.reason), _JSON]
        if error.reason == "UNSUPPORTED_VERSION":
            headers.append(("version", VERSION))
        if self._asked is not None and self._asked.receipt is not None:
            headers.append(("receipt-id", self._asked.receipt))
        body = {"reason": error.reason, "detail": error.message, "field": error.field}
        self._send(Frame("ERROR", tuple(headers), to_json(body)))
        self.end(close_of(error))

    def end(self, close: Close) -> None:
        """End the session without an ERROR frame."""
        if self.close is None:
            self.close = close
            self._state = _State.CLOSED
            self._subscriptions.clear()

    def _answer(self) -> None:
        """Send the receipt that the current request asks for, if any."""
        if self._asked is not None and self._asked.receipt is not None:
            self._send(Frame("RECEIPT", (("receipt-id", self._asked.receipt),)))
        self._asked = None

    # -- output

    def deliver(self, subscription_id: str, entry: Entry, *, is_snapshot: bool) -> None:
        """Send an update to a subscription. No-op if there is none of this id (any more)."""
        message = update_message(entry.update, entry.sequence)
        kind = "snapshot" if is_snapshot else "change"
        self._message(subscription_id, message, ("kind", kind))

    def _message(self, subscription_id: str, message: object, *headers: tuple[str, str]) -> None:
        topic = self._subscriptions.get(subscription_id)
        if topic is None:
            return
        self._messages += 1
        common = (
            ("subscription", subscription_id),
            ("message-id", str(self._messages)),
            ("destination", topic.destination),
            _JSON,
        )
        self._send(Frame("MESSAGE", (*common, *headers), to_json(message)))

    def _send(self, frame: Frame) -> None:
        if self.close is None:
            self._output.append(encode_frame(frame))

    def take_output(self, now: Instant) -> list[bytes]:
        """Return the frames to send, each as a message of its own."""
        output, self._output = self._output, []
        if output:
            self._sent_at = now.monotonic
        return output

    # -- time

    def due_in(self, now: Instant) -> float:
        """Return the seconds until `on_time` is due; it is harmless earlier."""
        due = [self._options.clock_check_seconds]
        if self._state is _State.CONNECTING:
            due.append(self._opened_at + self._options.connect_seconds - now.monotonic)
        else:
            if self._beats.send_seconds is not None:
                due.append(self._sent_at + self._beats.send_seconds - now.monotonic)
            if (missing_at := self._heart_beat_missing_at()) is not None:
                due.append(missing_at - now.monotonic)
            if self._token is not None:
                due.append(self._token.due_in(now.unix))
        return max(0.0, min(due))

    def on_time(self, now: Instant) -> None:
        """Do what is due: heart-beats, the end of the token, the end of a silent session."""
        if self._state is _State.CONNECTING:
            if now.monotonic >= self._opened_at + self._options.connect_seconds:
                self.refuse(
                    DeadlineExceeded("CONNECT_TIMEOUT", "No CONNECT in time; send it at once.")
                )
            return
        if self.close is not None:
            return
        missing_at = self._heart_beat_missing_at()
        if missing_at is not None and now.monotonic >= missing_at:
            self.end(HEART_BEAT_MISSED)
            return
        self._check_token(now)
        interval = self._beats.send_seconds
        if interval is not None and now.monotonic >= self._sent_at + interval:
            if not self._output and self.close is None:
                self._output.append(_HEART_BEAT)
            self._sent_at = now.monotonic

    def _check_token(self, now: Instant) -> None:
        if self._token is None:
            return
        if self._token.should_warn(now.unix):
            for subscription_id, topic in self._subscriptions.items():
                if isinstance(topic, SessionTopic):
                    self._message(subscription_id, self._token.notice(now.unix))
        if self._token.has_ended(now.unix):
            self.refuse(token_expired())

    def _heart_beat_missing_at(self) -> float | None:
        if self._beats.receive_seconds is None or self._asked is not None:
            return None  # while a request is answered, nothing more is read
        return self._received_at + self._beats.receive_seconds * self._options.heart_beat_tolerance


def _too_fast() -> SluiceError:
    return ResourceExhausted("TOO_MANY_FRAMES", "You send frames too fast; send fewer.")
