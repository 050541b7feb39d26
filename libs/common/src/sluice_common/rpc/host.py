"""Host of a gRPC server with interceptors, health, reflection and metrics, for every service."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from sluice_backends.instruments import Registry
from sluice_common.rates.limiter import RateLimiter
from sluice_common.rpc.interceptors import admin_layers, server_layers
from sluice_common.rpc.rate_limiting import RateLimiting
from sluice_common.rpc.reflection import add_reflection
from sluice_common.rpc.server import (
    Health,
    build_channelz_server,
    build_server,
    listen,
    listen_in,
    private_folder,
    serve_until_stopped,
)
from sluice_common.security.audit import RefusalSink
from sluice_common.security.authentication import Authenticator
from sluice_common.security.exposure import check_exposure
from sluice_common.security.tls.servers import open_server_tls
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.exposition import exposing
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_common.telemetry.tracing import Tracing, start_tracing
from sluice_core.addresses import Address

METRICS = "SLUICE_METRICS_ADDRESS"
CHANNELZ = "SLUICE_CHANNELZ_ADDRESS"
SERVICE = "SLUICE_SERVICE_ADDRESS"


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service: its full name and the function that registers its handlers."""

    name: str
    add_to: Callable[[grpc.aio.Server], None]


class RpcHost:
    """A started server. `addresses` maps each setting to the actual address.

    `own_target`: gRPC target of the socket for this process itself; None without one.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        health: Health,
        ready: asyncio.Event,
        addresses: Mapping[str, Address],
        own_target: str | None = None,
    ) -> None:
        self.addresses = addresses
        self.own_target = own_target
        self._server = server
        self._health = health
        self._ready = ready

    async def serve_until(self, stop: asyncio.Event, drain_seconds: float) -> None:
        """Serve until `stop`, then drain: refuse new calls, let those in flight finish."""
        try:
            await serve_until_stopped(
                self._server, self._health, stop, drain_seconds, self._ready.clear
            )
        finally:
            self._ready.clear()


def process_name() -> str:
    """Return a name unique to this process, even if its process id is reused."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@asynccontextmanager
async def traced(settings: SluiceSettings, service: str, instance: str) -> AsyncIterator[Tracing]:
    """Set up tracing as configured; send the last spans at the end of the block.

    Args:
        service, instance: names of this process in traces.
    """
    headers = settings.otlp_headers.get_secret_value() if settings.otlp_headers else None
    tracing = start_tracing(service, instance, settings.otlp_endpoint, headers)
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)


@asynccontextmanager
async def hosting(
    settings: SluiceSettings,
    services: Sequence[Service],
    addresses: Mapping[str, Address],
    registry: Registry,
    authenticator: Authenticator,
    tracing: Tracing,
    limiter: RateLimiter | None = None,
    refusals: RefusalSink | None = None,
    own_authenticator: Authenticator | None = None,
) -> AsyncIterator[RpcHost]:
    """Serve all `services` on all `addresses` (by their setting), and `registry` as `/metrics`.

    With a certificate in the settings all of them speak TLS, and nothing else. With an address for
    services in the settings, only that one requires client certificates.

    Args:
        limiter: counts every call against the rate limits.
        refusals: receives refused changes and refused tokens, for the audit log.
        own_authenticator: of calls that this process makes to itself, over a socket that no other
            user of the machine can open. It needs no certificate, and may accept other tokens than
            the addresses do. None for no such socket.

    Raise `ConfigurationError` for an address that is unusable, or not allowed without keys or TLS,
    and for TLS files that cannot be used.
    """
    names = [service.name for service in services]
    has_service_address = settings.service_address is not None
    if settings.service_address is not None:
        addresses = {**addresses, SERVICE: settings.service_address}
    channelz_address = settings.channelz_address
    check_exposure(
        settings,
        rpc=addresses,
        services=names,
        metrics={METRICS: settings.metrics_address},
        channelz={} if channelz_address is None else {CHANNELZ: channelz_address},
    )
    tls = open_server_tls(settings.tls, registry)

    options, metrics = settings.to_server_options(), registry.group(RpcMetrics)
    peers = settings.tls.peers
    limits = () if limiter is None else (RateLimiting(limiter, peers),)
    layers = server_layers(metrics, authenticator, options, peers, inner=limits, refusals=refusals)
    server = build_server(options, (*tracing.interceptors(), layers))
    health = Health()
    health.add_to(server)
    for service in services:
        service.add_to(server)
    if settings.grpc.reflection:
        add_reflection(server, names)
    actual = {
        name: listen(server, name, address, tls, for_users=has_service_address and name != SERVICE)
        for name, address in addresses.items()
    }

    ready = asyncio.Event()
    async with AsyncExitStack() as stack:
        own_target = None
        if own_authenticator is not None:
            own_layers = server_layers(
                metrics, own_authenticator, options, inner=limits, refusals=refusals
            )
            own = build_server(options, (*tracing.interceptors(), own_layers))
            for service in services:
                service.add_to(own)
            own_target = listen_in(own, stack.enter_context(private_folder()))
            stack.push_async_callback(own.stop, None)
            await own.start()
        # If the block fails before it serves, do not wait for calls in flight.
        stack.push_async_callback(server.stop, None)
        actual[METRICS] = await stack.enter_async_context(
            exposing(
                settings.metrics_address,
                registry,
                ready.is_set,
                None if tls is None else tls.https_contexts(),
            )
        )
        if channelz_address is not None:
            channelz = build_channelz_server((admin_layers(metrics, options),))
            actual[CHANNELZ] = listen(channelz, CHANNELZ, channelz_address, tls)
            stack.push_async_callback(channelz.stop, None)
            await channelz.start()
        await server.start()
        await health.serving(names)
        ready.set()
        yield RpcHost(server, health, ready, actual, own_target)
