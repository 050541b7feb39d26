"""The WebSocket of `/ws`: moves bytes between a socket, a STOMP session and the topics."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from math import ceil
from typing import Final

import structlog
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from sluice_core.access.principal import Principal
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import ResourceExhausted, SluiceError, Unavailable
from sluice_core.ports.live_updates import Listening
from sluice_gateway.http.dropping import SlowSubscriber, find_drop, send_within
from sluice_gateway.http.request_context import note_refusal
from sluice_gateway.live.framing import PLAIN, Framing
from sluice_gateway.live.hub import LiveHub, TopicReader, audience_of
from sluice_gateway.live.reads import Reads
from sluice_gateway.live.stomp.closing import SLOW_SUBSCRIBER, Close, restart
from sluice_gateway.live.stomp.frames import FrameError
from sluice_gateway.live.stomp.requests import Connect, Subscribe
from sluice_gateway.live.stomp.session import Request, StompSession
from sluice_gateway.live.topics import SessionTopic

SUBPROTOCOL: Final = "v12.stomp"
_TRANSPORT: Final = "stomp"

_log = structlog.get_logger(__name__)


class StompEndpoint:
    """ASGI application of `/ws`, or of a session of SockJS below it."""

    def __init__(self, hub: LiveHub, framing: Framing = PLAIN) -> None:
        self._hub = hub
        self._framing = framing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        if not self._hub.origins.allow(websocket.headers.getlist("origin")):
            await _refuse(websocket, 403, "This origin may not connect.")
            return
        offered = scope["subprotocols"]
        if offered and SUBPROTOCOL not in offered:
            await _refuse(websocket, 400, f"This server speaks STOMP 1.2; offer {SUBPROTOCOL}.")
            return
        connection = _Connection(self._hub, websocket, self._framing)
        try:
            with self._hub.sessions.open_session(connection.stop):
                await websocket.accept(SUBPROTOCOL if offered else None)
                await connection.run()
        except (Unavailable, ResourceExhausted) as error:
            await _refuse(websocket, 503, error.message, error.retry_after_seconds)


async def _refuse(
    websocket: WebSocket, status: int, text: str, retry_after_seconds: float | None = None
) -> None:
    """Refuse the handshake."""
    headers = {}
    if retry_after_seconds is not None:
        headers["retry-after"] = str(ceil(retry_after_seconds))
    await websocket.receive()  # websocket.connect
    await websocket.send_denial_response(PlainTextResponse(text + "\n", status, headers))


class _Connection:
    """One WebSocket: a task that reads requests, and one that writes and keeps the time.

    Only the writing task sends. The reading task waits until its answers are sent, so a client
    that asks and does not read gets no further.
    """

    def __init__(self, hub: LiveHub, websocket: WebSocket, framing: Framing) -> None:
        self._hub = hub
        self._websocket = websocket
        self._framing = framing
        self._drop = find_drop(websocket.scope)
        self._session = StompSession(hub.options, hub.clock())
        self._wake = asyncio.Event()
        self._flushed = asyncio.Event()
        self._has_gone = False
        self._principal: Principal | None = None
        self._listening: Listening | None = None
        self._readers: dict[str, TopicReader] = {}
        self._reads = Reads(lambda: self._wake.set())
        self._stack = AsyncExitStack()

    def stop(self, retry_after_seconds: float) -> None:
        """End the session because the replica stops."""
        self._session.end(restart(retry_after_seconds))
        self._wake.set()

    async def run(self) -> None:
        gauge = self._hub.metrics.sessions.labels(_TRANSPORT)
        gauge.inc()
        try:
            async with self._stack, aclosing(self._reads), asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read())
                try:
                    await self._write()
                finally:
                    reading.cancel()
        finally:
            gauge.dec()
            end = self._session.close
            reason = "GONE" if end is None else end.word
            self._hub.metrics.ended.labels(_TRANSPORT, reason).inc()
            _log.debug("live_session.ended", reason=reason)

    # -- reading

    async def _read(self) -> None:
        session, clock = self._session, self._hub.clock
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._has_gone = True
                self._wake.set()
                return
            data = message.get("bytes")
            for piece in self._decode(message["text"] if data is None else data):
                session.feed(piece, clock())
                while (request := session.next_request(clock())) is not None:
                    await self._answer(request)
            self._flushed.clear()
            self._wake.set()
            await self._flushed.wait()

    def _decode(self, message: str | bytes) -> list[bytes]:
        try:
            return self._framing.decode(message)
        except FrameError as error:
            self._session.refuse(error)
            return []

    async def _answer(self, request: Request) -> None:
        try:
            if isinstance(request, Connect):
                await self._connect(request)
            elif isinstance(request, Subscribe):
                await self._subscribe(request)
            else:
                reader = self._readers.pop(request.subscription_id, None)
                if reader is not None:
                    self._reads.forget(reader)
        except SluiceError as error:
            self._session.refuse(error)

    async def _connect(self, request: Connect) -> None:
        try:
            principal = await self._hub.authenticator.authenticate(request.authorization)
        except SluiceError as error:
            note_refusal(self._websocket.scope, error)
            raise
        user = audience_of(principal)
        self._stack.enter_context(self._hub.sessions.of_user(user))
        self._listening = await self._stack.enter_async_context(self._hub.updates.listen(user))
        self._principal = principal
        # From here on changes wake the writing task too; it may wait for the event before.
        before, self._wake = self._wake, self._listening.changed
        before.set()
        self._session.accept(self._hub.token_end(principal), self._hub.clock())

    async def _subscribe(self, request: Subscribe) -> None:
        assert self._principal is not None
        assert self._listening is not None
        topic = request.topic
        if not isinstance(topic, SessionTopic):
            await self._hub.require_hearing(self._principal, topic)
            self._readers[request.subscription_id] = TopicReader(
                self._hub, self._principal, topic, self._listening, request.after
            )
        self._session.subscribed(request, self._hub.clock())

    # -- writing

    async def _write(self) -> None:
        session, clock = self._session, self._hub.clock
        to_send = self._framing.opening
        while not self._has_gone:
            self._wake.clear()
            session.on_time(clock())
            try:
                if to_send:
                    await self._send(to_send)
                    to_send = ""
                await self._flush()
                if session.close is not None:
                    await self._close(session.close)
                    return
                is_done = await self._deliver()
            except SlowSubscriber:
                session.end(SLOW_SUBSCRIBER)
                self._drop(
                    SLOW_SUBSCRIBER.code, SLOW_SUBSCRIBER.reason, self._hub.options.linger_seconds
                )
                return
            except WebSocketDisconnect:
                return  # the client has gone; nothing is left to end
            if is_done:
                await wait_at_most(self._wake, session.due_in(clock()))

    async def _deliver(self) -> bool:
        """Send a batch of each subscription; return True when none has more by now."""
        is_done = True
        readers = [each for each in self._readers.items() if self._reads.has_more(each[1])]
        for subscription_id, reader in readers:
            try:
                batch = self._reads.take(reader)
            except SluiceError as error:
                self._session.refuse(error)
                return False
            if batch is None:
                continue
            is_done = False
            for number, entry in enumerate(batch.entries, start=1):
                # Meanwhile the id may belong to another subscription, or to none.
                if self._readers.get(subscription_id) is not reader:
                    break
                self._session.deliver(subscription_id, entry, is_snapshot=batch.is_snapshot)
                if number % self._hub.options.batch_updates == 0:
                    await self._flush()
            self._hub.metrics.messages.labels(_TRANSPORT).inc(len(batch.entries))
        return is_done

    async def _flush(self) -> None:
        """Send the output. Raise `SlowSubscriber`."""
        for frame in self._session.take_output(self._hub.clock()):
            await self._send(self._framing.encode(frame))
        self._flushed.set()

    async def _send(self, message: str) -> None:
        seconds = self._hub.options.write_seconds
        await send_within(seconds, self._websocket.send_text(message))

    async def _close(self, close: Close) -> None:
        if closing := self._framing.closing(close):
            await self._send(closing)
        seconds = self._hub.options.write_seconds
        await send_within(seconds, self._websocket.close(close.code, close.reason))
