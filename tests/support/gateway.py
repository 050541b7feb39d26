"""A gateway that serves on a real socket of this process, and clients for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from starlette.types import ASGIApp

from sluice_backends.files.store import FileObjectStore
from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_common.settings import SluiceSettings, load_settings
from sluice_core.access.audit import AuditEntry
from sluice_core.addresses import Address
from sluice_core.photos.model import Photo
from sluice_gateway.app import build_app
from sluice_gateway.backends import GatewayBackends
from sluice_gateway.bootstrap import PhotoHooks, open_gateway
from sluice_gateway.deps import GatewayDeps
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.server import HttpOptions, bind, serving_http
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.options import GatewayOptions
from sluice_gateway.projection.adoption import PhotoAdopter
from sluice_gateway.settings import gateway_options
from sluice_gateway.tus.options import TusOptions
from sluice_gateway.tus.routes import open_tus
from support.audit import KeptRefusals
from support.catalogue_files import catalogue_file, empty_catalogue

ANN = {"email": "ann@example.com", "password": "correct horse"}
BOB = {"email": "bob@example.com", "password": "battery staple"}

Change = Callable[[GatewayOptions], GatewayOptions]


@dataclass
class Reply:
    """An answer: status, headers in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def reason(self) -> str:
        """The stable reason of a problem document."""
        assert self.headers["content-type"] == "application/problem+json", self.content
        document = self.json()
        assert document["status"] == self.status
        assert document["requestId"] == self.headers["x-request-id"]
        assert document["traceId"] == self.headers["x-trace-id"]
        return str(document["reason"])


@dataclass
class Gateway:
    """A running gateway. `ready`: what its probes answer."""

    address: Address
    deps: GatewayDeps
    catalogue: SqlCatalogue
    database: Path
    http: aiohttp.ClientSession
    ready: list[bool] = field(default_factory=lambda: [True])
    refusals: list[AuditEntry] = field(default_factory=list)
    """Refused callers, as the audit log gets them."""

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def call(self, method: str, path: str, **named: Any) -> Reply:
        """Send a request; return its answer."""
        async with self.http.request(method, self.url + path, **named) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Reply(answer.status, headers, await answer.read())

    async def get(self, path: str, token: str | None = None, **headers: str) -> Reply:
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return await self.call("GET", path, headers=headers)

    async def post(self, path: str, body: Any, **headers: str) -> Reply:
        return await self.call("POST", path, json=body, headers=headers)

    async def register(self, credentials: Mapping[str, str] = ANN) -> Any:
        """Register, and return the session."""
        reply = await self.post("/api/auth/register", credentials)
        assert reply.status == 201, reply.content
        return reply.json()

    async def raw(self, *pieces: bytes, seconds: float = 20.0) -> bytes:
        """Send bytes on a connection of their own; return all that comes until it ends."""
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await received(reader, seconds)
        finally:
            writer.close()


async def received(reader: asyncio.StreamReader, seconds: float = 20.0) -> bytes:
    """Return all that comes until the connection ends, also when a reset ends it."""
    content = b""
    async with asyncio.timeout(seconds):
        try:
            while piece := await reader.read(65536):
                content += piece
        except ConnectionResetError:
            pass
    return content


async def _reprocess(photo: Photo) -> None:
    raise AssertionError("these tests process no photo")


@dataclass(frozen=True)
class TusBackend:
    """The services behind resumable uploads, by their addresses."""

    intake: str
    repository: str
    options: TusOptions = field(default_factory=TusOptions)
    authentication: Authentication | None = None


@asynccontextmanager
async def running_gateway(
    folder: Path,
    *,
    settings: SluiceSettings | None = None,
    change: Change = lambda options: options,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    even_seconds: float = 0.0,
    extend: Callable[[GatewayDeps, SqlCatalogue], GatewayDeps] = lambda deps, _: deps,
    tus: TusBackend | None = None,
) -> AsyncIterator[Gateway]:
    """Serve on a loopback address inside the block.

    Args:
        folder: of its signing keys.
        change: changes the options that the settings lead to.
        wrap: puts a layer around the application.
        even_seconds: see `Accounts`.
        extend: adds dependencies of further routes.
        tus: serves resumable uploads on these services.
    """
    given = settings or load_settings(data_dir=folder)
    ready = [True]

    async def is_ready() -> bool:
        return ready[0]

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        listener = stack.enter_context(
            bind("SLUICE_GATEWAY_ADDRESS", given.gateway_address.with_port(0))
        )
        address = given.gateway_address.with_port(listener.getsockname()[1])
        options = change(gateway_options(given, address))
        catalogue = await enter(open_catalogue(await empty_catalogue(folder)))
        store = await enter(FileObjectStore(folder / "objects", fsync=False))
        backends = GatewayBackends(catalogue, store, MemoryLiveUpdates())
        hooks = PhotoHooks(PhotoAdopter(catalogue, store), _reprocess)
        metrics = GatewayMetrics()
        deps = await enter(open_gateway(given, options, backends, hooks, metrics, is_ready))
        if deps.accounts is not None:
            deps = replace(deps, accounts=replace(deps.accounts, even_seconds=even_seconds))
        refusals = KeptRefusals()
        deps = extend(replace(deps, refusals=refusals), catalogue)
        if tus is not None:
            authentication = tus.authentication or deps.authentication
            uploads = open_tus(authentication, tus.intake, tus.repository, given.tls, tus.options)
            deps = replace(deps, tus=await enter(uploads))
        proxies = HttpOptions(options.trusted_proxies)
        assert deps.hub is not None, "open_gateway opens one"
        end = deps.hub.sessions.stop
        await enter(serving_http(listener, wrap(build_app(deps)), proxies, None, end))
        http = await enter(aiohttp.ClientSession(auto_decompress=False))
        database = catalogue_file(folder)
        yield Gateway(address, deps, catalogue, database, http, ready, refusals.entries)
