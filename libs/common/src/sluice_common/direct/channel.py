"""gRPC channel from an intake to its repository."""

from __future__ import annotations

from typing import Final

import grpc.aio

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
)


def direct_channel(target: str) -> grpc.aio.Channel:
    """Return a plaintext channel; the caller closes it.

    Args:
        target: `host:port`, or a gRPC target such as `dns:///repository:50052`.
    """
    return grpc.aio.insecure_channel(target, options=_OPTIONS)
