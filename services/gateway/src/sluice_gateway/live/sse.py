"""Server-sent events of a job: a snapshot, then changes (HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from sluice_common.security.refusals import token_expired
from sluice_core.access.principal import Principal
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import SluiceError
from sluice_core.ports.live_updates import Listening
from sluice_gateway.http.dropping import SlowSubscriber, find_drop, send_within
from sluice_gateway.live.clocks import Instant
from sluice_gateway.live.hub import Batch, LiveHub, TopicReader, audience_of
from sluice_gateway.live.messages import to_json, update_message
from sluice_gateway.live.reads import Reads
from sluice_gateway.live.topics import JobTopic, parse_cursor

_TRANSPORT: Final = "sse"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)


def encode_event(event: str, data: object, sequence: int | None = None) -> bytes:
    """Return an event. `sequence` becomes the `Last-Event-ID` with which the client comes back."""
    identity = b"" if sequence is None else b"id: %d\n" % sequence
    return b"%sevent: %s\ndata: %s\n\n" % (identity, event.encode(), to_json(data))


def encode_batch(batch: Batch, batch_updates: int) -> list[bytes]:
    """Return the events of a batch.

    A change is an event of its own. A snapshot comes in pieces, of which the last has the id and
    `complete`: a client that was cut off before begins with a snapshot again.
    """
    if not batch.is_snapshot:
        return [
            encode_event("change", update_message(entry.update, entry.sequence), entry.sequence)
            for entry in batch.entries
        ]
    pieces = [
        batch.entries[at : at + batch_updates]
        for at in range(0, max(1, len(batch.entries)), batch_updates)
    ]
    events = []
    for number, piece in enumerate(pieces, start=1):
        is_last = number == len(pieces)
        data = {
            "complete": is_last,
            "updates": [update_message(entry.update, entry.sequence) for entry in piece],
        }
        sequence = batch.position if is_last else None
        events.append(encode_event("snapshot", data, sequence))
    return events


class JobEvents:
    """ASGI response: the events of one job for one client.

    Ends with the client, with the token, when the replica stops, and when the client does not read.
    Clients come back by themselves, after the `retry` that they were sent last.
    """

    def __init__(
        self, hub: LiveHub, principal: Principal, job_id: str, last_event_id: str | None
    ) -> None:
        """Raise `InvalidArgument` for an id of no event."""
        self._hub = hub
        self._principal = principal
        self._topic = JobTopic(job_id)
        self._cursor = parse_cursor(last_event_id, "Last-Event-ID")
        self._token = hub.token_end(principal)
        self._wake = asyncio.Event()
        self._retry_after_seconds: float | None = None
        self._has_gone = False
        self._sent_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise `NotFound`, `ResourceExhausted` or `Unavailable` before the response begins."""
        hub, user = self._hub, audience_of(self._principal)
        await hub.require_hearing(self._principal, self._topic)
        with hub.sessions.open_session(self._stop), hub.sessions.of_user(user):
            async with hub.updates.listen(user) as listening:
                hub.metrics.sessions.labels(_TRANSPORT).inc()
                reason = "GONE"
                try:
                    reason = await self._run(_Output(hub, scope, send), receive, listening)
                finally:
                    hub.metrics.sessions.labels(_TRANSPORT).dec()
                    hub.metrics.ended.labels(_TRANSPORT, reason).inc()

    def _stop(self, retry_after_seconds: float) -> None:
        self._retry_after_seconds = retry_after_seconds
        self._wake.set()

    async def _run(self, output: _Output, receive: Receive, listening: Listening) -> str:
        before, self._wake = self._wake, listening.changed
        if before.is_set():
            self._wake.set()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(receive))
            try:
                return await self._send_events(output, listening)
            except SlowSubscriber:
                output.drop()
                return "SLOW_SUBSCRIBER"
            finally:
                watching.cancel()

    async def _watch(self, receive: Receive) -> None:
        """Notice that the client has gone: sending to it does not fail."""
        message: Message = {"type": "http.request"}
        while message["type"] != "http.disconnect":
            message = await receive()
        self._has_gone = True
        self._wake.set()

    async def _send_events(self, output: _Output, listening: Listening) -> str:
        hub = self._hub
        reader = TopicReader(hub, self._principal, self._topic, listening, self._cursor)
        await output.begin(hub.options.retry_ms)
        async with aclosing(Reads(self._awake)) as reads:
            return await self._advance_on(output, reader, reads)

    def _awake(self) -> None:
        self._wake.set()

    async def _advance_on(self, output: _Output, reader: TopicReader, reads: Reads) -> str:
        hub = self._hub
        while not self._has_gone:
            self._wake.clear()
            now = hub.clock()
            if self._retry_after_seconds is not None:
                await output.end(b"retry: %d\n\n" % round(self._retry_after_seconds * 1000))
                return "RESTART"
            if (error := await self._advance(output, reader, reads, now)) is not None:
                await output.end(_error_event(error))
                return error.reason
            if not reads.has_more(reader) or reads.is_waiting(reader):
                await wait_at_most(self._wake, self._due_in(output, hub.clock()))
        return "GONE"

    async def _advance(
        self, output: _Output, reader: TopicReader, reads: Reads, now: Instant
    ) -> SluiceError | None:
        """Send what is due; return the error that ends the stream."""
        if self._token.should_warn(now.unix):
            await output.write(encode_event("session", self._token.notice(now.unix)))
        if self._token.has_ended(now.unix):
            return token_expired()
        batch = None
        if reads.has_more(reader):
            try:
                batch = reads.take(reader)
            except SluiceError as error:
                return error
        if batch is not None:
            for event in encode_batch(batch, self._hub.options.batch_updates):
                await output.write(event)
            self._hub.metrics.messages.labels(_TRANSPORT).inc(len(batch.entries))
        elif output.silent_seconds(now) >= self._hub.options.keep_alive_seconds:
            await output.write(b":\n\n")
        return None

    def _due_in(self, output: _Output, now: Instant) -> float:
        options = self._hub.options
        keep_alive = options.keep_alive_seconds - output.silent_seconds(now)
        due = min(keep_alive, self._token.due_in(now.unix), options.clock_check_seconds)
        return max(0.0, due)


def _error_event(error: SluiceError) -> bytes:
    body: Mapping[str, str] = {"reason": error.reason, "detail": error.message}
    return encode_event("error", body)


class _Output:
    """The body of the response. Raises `SlowSubscriber` when the client does not read."""

    def __init__(self, hub: LiveHub, scope: Scope, send: Send) -> None:
        self.drop_connection = find_drop(scope)
        self._hub = hub
        self._send = send
        self._written_at = hub.clock().monotonic

    async def begin(self, retry_ms: int) -> None:
        await self._write({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        await self.write(b"retry: %d\n\n" % retry_ms)

    async def write(self, data: bytes) -> None:
        await self._write({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes) -> None:
        await self._write({"type": "http.response.body", "body": data, "more_body": False})

    def drop(self) -> None:
        self.drop_connection(0, "", 0.0)

    def silent_seconds(self, now: Instant) -> float:
        """Return the seconds since the last byte."""
        return now.monotonic - self._written_at

    async def _write(self, message: Message) -> None:
        await send_within(self._hub.options.write_seconds, self._send(message))
        self._written_at = self._hub.clock().monotonic
