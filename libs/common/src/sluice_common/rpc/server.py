"""Construction of gRPC servers: limits, keepalive, health, channelz, drain."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import grpc
import grpc.aio
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from sluice_common.security.tls.servers import ServerTls
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError

_UNLIMITED: Final = 2**31 - 1
"""gRPC's value for "never" in millisecond options."""


def build_server(
    options: ServerOptions, interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = ()
) -> grpc.aio.Server:
    """Return a server without a listener. The first interceptor is the outermost."""
    return grpc.aio.server(
        interceptors=tuple(interceptors),
        options=_channel_options(options),
        maximum_concurrent_rpcs=options.max_concurrent_rpcs,
    )


def _channel_options(options: ServerOptions) -> tuple[tuple[str, int], ...]:
    age = options.max_connection_age_seconds
    return (
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        # gRPC would inflate every message up to the server's limit; rpc/messages.py inflates them
        # within the limit of the method.
        ("grpc.per_message_decompression", 0),
        # Soft and hard limit are equal: between the two gRPC refuses at random.
        ("grpc.max_metadata_size", options.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", options.max_metadata_bytes),
        ("grpc.max_concurrent_streams", options.max_concurrent_streams),
        # By default a client that says nothing keeps its connection for two minutes.
        ("grpc.server_handshake_timeout_ms", _milliseconds(options.handshake_seconds)),
        ("grpc.keepalive_time_ms", _milliseconds(options.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(options.keepalive_timeout_seconds)),
        # The ping timeout also applies to keepalive pings and defaults to a minute, which would
        # keep the connection of a vanished client half a minute too long.
        ("grpc.http2.ping_timeout_ms", _milliseconds(options.keepalive_timeout_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Allow a ping every 10 s, even without calls; by default gRPC answers with GOAWAY.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_age_ms", _milliseconds(age) if age > 0 else _UNLIMITED),
        ("grpc.max_connection_age_grace_ms", _milliseconds(options.connection_grace_seconds)),
        # Off unless several processes share a port on purpose: else two servers on one port would
        # both start, and each would receive half of the calls.
        ("grpc.so_reuseport", int(options.reuse_port)),
        ("grpc.http2.max_frame_size", options.max_frame_bytes),
        *_flow_control(options.stream_window_bytes),
    )


def _flow_control(window_bytes: int) -> tuple[tuple[str, int], ...]:
    """Return the options of the stream window.

    With a bandwidth probe the window starts at 4 MiB and grows on a fast network, for all streams,
    even those without a reader (ADR 0016).
    """
    if window_bytes == 0:
        return ()
    return ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", window_bytes)


def _milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), _UNLIMITED)


def listen(
    server: grpc.aio.Server,
    setting: str,
    address: Address,
    tls: ServerTls | None = None,
    *,
    for_users: bool = False,
) -> Address:
    """Bind a server to an address; return the actual one (port 0 picks a free port).

    Args:
        tls: None for plain text.
        for_users: never require a client certificate there.
    """
    try:
        if tls is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), tls.credentials(for_users=for_users))
    except RuntimeError:
        port = 0
    if port == 0:
        raise ConfigurationError(
            f"{setting}: cannot listen on {address}; is another server running there?"
        )
    return address.with_port(port)


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make a folder that only this user can enter, for the time of the block.

    Raise `ConfigurationError` where none can be made.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="sluice-")
    except OSError as error:
        raise ConfigurationError(
            f"TMPDIR: no folder can be made there ({error.strerror}); name a writable one"
        ) from None
    with made as folder:
        yield Path(folder)


def listen_in(server: grpc.aio.Server, folder: Path) -> str:
    """Bind a server to a socket in a folder that only this user can enter; return its target.

    Raise `ConfigurationError` if the folder cannot have one.
    """
    target = f"unix:{folder / 'grpc'}"
    try:
        port = server.add_insecure_port(target)
    except RuntimeError:
        port = 0
    if port == 0:
        raise ConfigurationError(
            f"TMPDIR: cannot listen on a socket in {folder}; name a folder with a shorter path"
        )
    return target


class Health:
    """The grpc.health.v1 service of one server: overall ("") and per service."""

    def __init__(self) -> None:
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # newer than its stubs
        self._services: tuple[str, ...] = ()

    def add_to(self, server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def serving(self, services: Sequence[str]) -> None:
        """Report the services as SERVING."""
        for service in ("", *services):
            await self._servicer.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Report NOT_SERVING for good, so that load balancers use other servers."""
        await self._servicer.enter_graceful_shutdown()


def build_channelz_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = (),
) -> grpc.aio.Server:
    """Return a separate server for channelz.

    Its counters show every peer, so it must only listen on an admin address, never on one that
    clients reach.
    """
    server = build_server(ServerOptions(), interceptors)
    # It accepts both kinds of server; its stubs only have the synchronous one.
    channelz.add_channelz_servicer(cast("grpc.Server", server))
    return server


async def serve_until_stopped(
    server: grpc.aio.Server,
    health: Health,
    stop: asyncio.Event,
    drain_seconds: float,
    on_drain: Callable[[], None] = lambda: None,
) -> None:
    """Serve a started server until `stop`, then drain it.

    First NOT_SERVING is reported to load balancers, then `on_drain` is called and new calls are
    refused. Calls in flight have `drain_seconds` to finish and are then cancelled.
    """
    try:
        await stop.wait()
        await health.drain()
        on_drain()
    finally:
        await server.stop(drain_seconds)
