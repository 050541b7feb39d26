"""uvicorn inside a process that has its own event loop, signals and logs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from starlette.types import ASGIApp
from uvicorn import Config, Server

from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError
from sluice_gateway.http.connections import Connections
from sluice_gateway.http.dropping import DroppableWebSocket
from sluice_gateway.http.protocol import LimitedProtocol

DRAIN_SECONDS: Final = 5
"""Time for requests in progress after a stop; then they are cancelled."""
SESSION_SECONDS: Final = 4.0
"""Time for the ends of live sessions before that: a stop takes less than 10 s together."""
KEEP_ALIVE_SECONDS: Final = 20
"""How long an idle connection stays open: above the polling interval of clients."""
MAX_WEBSOCKET_MESSAGE_BYTES: Final = 16 * 1024
"""A STOMP frame; larger messages end the connection before they are in memory."""
_BACKLOG: Final = 2048
_UNANSWERED_MS: Final = 60_000
"""Also the time that a reader may pause a download."""

ContextSource = Callable[[], ssl.SSLContext]
EndSessions = Callable[[], Awaitable[None]]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How connections are accepted.

    trusted_proxies: addresses or networks of proxies whose `X-Forwarded-For` and
    `X-Forwarded-Proto` count; without any, the peer of the connection is the client.
    connections: limits of open connections. Servers with the same options share them.
    """

    trusted_proxies: Sequence[str] = ()
    connections: Connections = field(default_factory=Connections)
    drain_seconds: int = DRAIN_SECONDS
    session_seconds: float = SESSION_SECONDS


class _EmbeddedServer(Server):
    """uvicorn's server without its own handling of signals."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.is_listening = asyncio.Event()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, and cut what is left: a peer that does not read would keep its socket."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@asynccontextmanager
async def serving_http(
    listener: socket.socket,
    app: ASGIApp,
    options: HttpOptions,
    tls: ContextSource | None = None,
    end_sessions: EndSessions | None = None,
) -> AsyncIterator[Server]:
    """Serve `app` inside the block.

    At the end first `end_sessions`: uvicorn closes WebSockets without a hint when to come back, and
    waits for event streams, which would not end. Meanwhile requests are served. Then new
    connections are refused, and requests in progress get `drain_seconds`.

    Args:
        listener: see `bind`; it is closed at the end.
        tls: returns the context of a new connection; None for plain text.
        end_sessions: accepts no more live sessions and ends the open ones.
    """
    # It logs whatever strangers send, at `warning`.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = _EmbeddedServer(_config(app, options, tls))
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve([listener]), name="http")
        try:
            await server.is_listening.wait()
            yield server
        finally:
            try:
                await _ended(end_sessions, options.session_seconds)
            finally:
                server.should_exit = True


async def _ended(end_sessions: EndSessions | None, seconds: float) -> None:
    if end_sessions is None:
        return
    try:
        async with asyncio.timeout(seconds):
            await end_sessions()
    except TimeoutError:
        _log.warning("live_sessions.drain_timed_out", seconds=seconds)


def _config(app: ASGIApp, options: HttpOptions, tls: ContextSource | None) -> Config:
    proxies = list(options.trusted_proxies)
    return Config(
        app,
        http=functools.partial(LimitedProtocol, connections=options.connections),  # type: ignore[arg-type]
        ws=DroppableWebSocket,
        ws_max_size=MAX_WEBSOCKET_MESSAGE_BYTES,
        # A small message may inflate to a large one, and a window would cost each session memory.
        ws_per_message_deflate=False,
        lifespan="off",  # the composition root opens and closes what the application uses
        log_config=None,
        access_log=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=options.drain_seconds,
        ssl_context_factory=None if tls is None else lambda _config, _default: following(tls),
        # A request must not inherit what the task that accepted its connection has bound.
        reset_contextvars=True,
    )


def following(tls: ContextSource) -> ssl.SSLContext:
    """Return a context whose handshakes use the newest certificate of `tls`.

    asyncio takes one context for the life of a listener. The callback runs for every handshake,
    also without a server name, and may exchange the context.
    """
    context = tls()

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = tls()

    context.sni_callback = choose
    return context


def bind(setting: str, address: Address) -> socket.socket:
    """Return a listener on an address; connections wait until it is served.

    Args:
        setting: the name of the setting with the address, for the error.

    Raise `ConfigurationError` if the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        found = socket.getaddrinfo(address.host, address.port, family, socket.SOCK_STREAM)[0]
        host, port = found[4][:2]
        listener = socket.create_server((str(host), int(port)), family=family, backlog=_BACKLOG)
        # Its connections inherit it. A live session to a client that vanished ends after its next
        # heart-beat, not after the quarter of an hour for which the kernel repeats it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)
        return listener
    except OSError:
        raise ConfigurationError(
            f"{setting}: cannot listen on {address}; is another server running there?"
        ) from None
