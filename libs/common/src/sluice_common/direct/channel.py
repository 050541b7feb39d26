"""gRPC channel from an intake to its repository."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc
import grpc.aio

from sluice_common.direct.rotating_channel import CHECK_SECONDS, open_rotating_channel
from sluice_common.security.tls.files import RotatingMaterial, TlsFiles
from sluice_common.settings.security import Tls

_OPTIONS: Final = (
    # The client of the upload retries; a second layer here would multiply its attempts.
    ("grpc.enable_retries", 0),
    # gRPC's default backoff grows to two minutes; reconnect soon after a restart.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    # Detect a repository that vanished, also on streams that only wait for it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Defaults to a minute, regardless of the keepalive timeout.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Distribute streams over all addresses of the name.
    ("grpc.lb_policy_name", "round_robin"),
    # The proxy of http_proxy, which gRPC uses even for loopback, would read forwarded tokens.
    ("grpc.enable_http_proxy", 0),
)


@asynccontextmanager
async def open_service_channel(
    target: str, tls: Tls, check_seconds: float = CHECK_SECONDS
) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel to another Sluice service: by TLS if the settings have any, else plaintext.

    By TLS the other end must have a certificate for the host of `target`, from the authorities in
    `ca_file` (by default the system's); this end shows its own certificate, if it has one. Both
    follow the files without dropping calls.

    Args:
        target: `host:port`, or a gRPC target such as `dns:///repository:50052`. No proxy of the
            environment is used.
        check_seconds: interval at which the files are compared with those in use.

    Raise `ConfigurationError` for TLS files that cannot be used.
    """
    if not tls.secures_calls:
        async with direct_channel(target) as channel:
            yield channel
        return
    material = await asyncio.to_thread(RotatingMaterial, TlsFiles.of_calls(tls))

    def open_channel(credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        # A pool of its own, so that no channel gets a connection with the credentials of another.
        options = (*_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        return grpc.aio.secure_channel(target, credentials, options=options)

    async with open_rotating_channel(material, open_channel, check_seconds) as channel:
        yield channel


def direct_channel(target: str) -> grpc.aio.Channel:
    """Return a plaintext channel; the caller closes it."""
    return grpc.aio.insecure_channel(target, options=_OPTIONS)
