"""Live updates on a real uvicorn and a real socket, and clients that read them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_core.access.principal import Principal
from sluice_core.errors import SluiceError, Unauthenticated, Unavailable
from sluice_core.live.updates import Update
from sluice_core.ports.live_updates import LiveUpdates
from sluice_gateway.http.server import HttpOptions, serving_http
from sluice_gateway.live.clocks import Clock, system_clock
from sluice_gateway.live.hub import LiveHub, audience_of
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.origins import Origins
from sluice_gateway.live.routes import live_routes
from sluice_gateway.live.sessions import Sessions
from sluice_gateway.live.stomp.frames import Frame, encode_frame
from sluice_gateway.live.stomp.parser import FrameParser
from sluice_gateway.live.topics import JobTopic, UserTopic
from sluice_gateway.metrics import LiveMetrics

ORIGIN = "https://photos.example"
WAIT_SECONDS = 30.0
SMALL_BUFFER_BYTES = 4096
_STATUS = {"UNAUTHENTICATED": 401, "NOT_FOUND": 404, "INVALID_ARGUMENT": 400, "UNIMPLEMENTED": 405}


class JobTable:
    """The jobs of the tests, in the place of the catalogue: by id, with owner and states."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        self.states: dict[str, list[Update]] = {}
        self.snapshots = 0
        self.asked = 0
        self.is_down = False

    def add(self, job_id: str, owner: str = "ann", *states: Update) -> None:
        self.owners[job_id] = owner
        self.states[job_id] = list(states)

    async def may_hear(self, principal: Principal, topic: JobTopic | UserTopic) -> bool:
        self.asked += 1
        if isinstance(topic, UserTopic):
            return True
        return self.owners.get(topic.job_id) == principal.subject

    async def snapshot(self, principal: Principal, topic: JobTopic | UserTopic) -> Sequence[Update]:
        if self.is_down:
            raise Unavailable("CATALOGUE_UNAVAILABLE", "Try again.")
        self.snapshots += 1
        if isinstance(topic, JobTopic):
            return list(self.states[topic.job_id])
        own = (job for job, owner in self.owners.items() if owner == principal.subject)
        return [state for job in own for state in self.states[job]]

    async def versions(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        return {
            state.job_id: state.version
            for job_id in job_ids
            for state in self.states.get(job_id, ())
            if not state.photo_id
        }


@dataclass
class NamedUsers:
    """Authenticator that takes `Bearer NAME` as the user NAME of the tenant `acme`."""

    expires_at: float | None = None
    is_key_withdrawn: bool = False

    def holds_key(self, principal: Principal) -> bool:
        return not self.is_key_withdrawn

    async def authenticate(self, authorization: str | None) -> Principal:
        scheme, _, name = (authorization or "").partition(" ")
        if scheme != "Bearer" or not name.isalpha():
            raise Unauthenticated("BAD_TOKEN", "The token is not valid for this server.")
        return replace(user(name), expires_at=self.expires_at)


def user(name: str) -> Principal:
    return Principal("acme", name, frozenset())


class Address(Protocol):
    """Where clients of the tests connect to."""

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...


@dataclass
class LiveGateway:
    """A running server of live updates."""

    hub: LiveHub
    jobs: JobTable
    users: NamedUsers
    port: int
    server: uvicorn.Server
    path: str = "/ws"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{self.path}"

    async def publish(self, *updates: Update, owner: str = "ann") -> None:
        await self.hub.updates.publish(audience_of(user(owner)), updates)


@asynccontextmanager
async def running_gateway(
    updates: LiveUpdates | None = None,
    jobs: JobTable | None = None,
    options: LiveOptions | None = None,
    clock: Clock = system_clock,
    spread: float = 0.5,
    small_buffers: bool = False,
) -> AsyncIterator[LiveGateway]:
    """Run the routes of live updates on a free port of this event loop.

    Args:
        spread: 0 to 1, in the place of the random share of the time to come back.
        small_buffers: keep little in the kernel for a client that does not read.
    """
    options = options or LiveOptions()
    jobs, users = jobs or JobTable(), NamedUsers()
    hub = LiveHub(
        updates or MemoryLiveUpdates(),
        jobs,
        users,
        Origins([ORIGIN]),
        Sessions(options, lambda: spread),
        options,
        LiveMetrics(),
        clock,
    )
    app = Starlette(routes=live_routes(hub), exception_handlers={SluiceError: _as_problem})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if small_buffers:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER_BYTES)
        port = listener.getsockname()[1]
        http = HttpOptions(session_seconds=WAIT_SECONDS)
        async with serving_http(listener, app, http, None, hub.sessions.stop) as server:
            yield LiveGateway(hub, jobs, users, port, server)


async def _as_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, SluiceError)
    body = {"reason": error.reason, "detail": error.message}
    status, media_type = _STATUS.get(error.code, 503), "application/problem+json"
    return JSONResponse(body, status, dict(error.metadata), media_type=media_type)


def small_socket(gateway: Address) -> socket.socket:
    """Return a connected socket that takes little before its owner reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
    client.connect(("127.0.0.1", gateway.port))
    client.setblocking(False)
    return client


async def publish_until(gateway: LiveGateway, done: Callable[[], bool]) -> Update:
    """Publish changes of a photo until a condition holds; return the last one."""
    version = 100
    async with asyncio.timeout(WAIT_SECONDS):
        while not done():
            version += 1
            update = Update("job-1", "p1", "UPLOADING", version, 1_000_000, version)
            await gateway.publish(update)
            await asyncio.sleep(0)
    return update


@dataclass
class StompClient:
    """A client of the tests on the `websockets` library, with the frames that it has received."""

    socket: ClientConnection
    parser: FrameParser = field(default_factory=FrameParser)

    async def send(self, command: str, *headers: tuple[str, str], body: bytes = b"") -> None:
        await self.socket.send(encode_frame(Frame(command, headers, body)).decode())

    async def next_frame(self) -> Frame:
        """Return the next frame; raise `ConnectionClosed` when there is none any more."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (frame := self.parser.next_frame()) is None:
                data = await self.socket.recv()
                self.parser.feed(data.encode() if isinstance(data, str) else data)
        return frame

    async def connect(self, name: str = "ann", *headers: tuple[str, str]) -> Frame:
        await self.send(
            "CONNECT",
            ("accept-version", "1.2"),
            ("host", "sluice"),
            ("Authorization", f"Bearer {name}"),
            *headers,
        )
        return await self.next_frame()

    async def subscribe(
        self, destination: str, subscription_id: str = "s", *headers: tuple[str, str]
    ) -> None:
        """Subscribe and wait for the receipt."""
        receipt = f"receipt-{subscription_id}"
        await self.send(
            "SUBSCRIBE",
            ("id", subscription_id),
            ("destination", destination),
            ("receipt", receipt),
            *headers,
        )
        frame = await self.next_frame()
        assert (frame.command, frame.header("receipt-id")) == ("RECEIPT", receipt), frame

    async def next_message(self) -> dict[str, Any]:
        frame = await self.next_frame()
        assert frame.command == "MESSAGE", frame
        message: dict[str, Any] = json.loads(frame.body)
        return message

    async def closed(self) -> tuple[int, str, list[Frame]]:
        """Wait for the end; return its close code and reason, and the last frames."""
        frames = []
        with suppress(ConnectionClosed):
            while True:
                frames.append(await self.next_frame())
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or "", frames


@asynccontextmanager
async def stomp_client(
    gateway: Address,
    *,
    origin: str | None = ORIGIN,
    subprotocols: Iterable[str] = ("v12.stomp",),
    **options: Any,
) -> AsyncIterator[StompClient]:
    """Open a WebSocket. It is not connected in the sense of STOMP."""
    protocols = [Subprotocol(each) for each in subprotocols]
    async with connect(
        gateway.url,
        origin=None if origin is None else Origin(origin),
        subprotocols=protocols or None,
        proxy=None,
        open_timeout=WAIT_SECONDS,
        **options,
    ) as socket_:
        yield StompClient(socket_)


@dataclass
class EventStream:
    """A client of server-sent events that reads what HTTP/1.1 carries, as browsers do."""

    reader: asyncio.StreamReader
    status: int
    headers: dict[str, str]
    _rest: bytes = b""

    async def next_block(self) -> dict[str, str]:
        """Return the fields of the next block; a comment has the name "". Raise `EOFError`."""
        async with asyncio.timeout(WAIT_SECONDS):
            while b"\n\n" not in self._rest:
                piece = await self._next_piece()
                if not piece:
                    raise EOFError
                self._rest += piece
        block, _, self._rest = self._rest.partition(b"\n\n")
        fields = (line.partition(":") for line in block.decode().split("\n"))
        return {name: value.removeprefix(" ") for name, _, value in fields}

    async def next_event(self) -> tuple[str, dict[str, Any], str | None]:
        """Return the type, the data and the id of the next event."""
        async with asyncio.timeout(WAIT_SECONDS):
            while "event" not in (block := await self.next_block()):
                pass
        return block["event"], json.loads(block["data"]), block.get("id")

    async def rest(self) -> bytes:
        """Return everything until the end."""
        async with asyncio.timeout(WAIT_SECONDS):
            while piece := await self._next_piece():
                self._rest += piece
        return self._rest

    async def _next_piece(self) -> bytes:
        """Return the next piece of the body, empty at its end."""
        if self.headers.get("transfer-encoding") != "chunked":
            return await self.reader.read(4096)
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        piece = await self.reader.readexactly(size + 2)
        return piece[:-2]


@asynccontextmanager
async def event_stream(
    gateway: Address,
    job_id: str = "job-1",
    name: str = "ann",
    last_event_id: str | None = None,
    *,
    method: str = "GET",
    small: bool = False,
    host: str = "sluice",
) -> AsyncIterator[EventStream]:
    """Request the events of a job.

    Args:
        host: a gateway on a loopback address refuses other names.
        small: take little before the test reads.
    """
    if small:
        reader, writer = await asyncio.open_connection(sock=small_socket(gateway), limit=4096)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    lines = [
        f"{method} /queries/upload-jobs/{job_id}/events HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {name}",
    ]
    if last_event_id is not None:
        lines.append(f"Last-Event-ID: {last_event_id}")
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = (line.partition(":") for line in head[1:] if line)
        headers = {key.lower(): value.strip() for key, _, value in fields}
        yield EventStream(reader, int(head[0].split()[1]), headers)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
