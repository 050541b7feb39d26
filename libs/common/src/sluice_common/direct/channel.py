"""The channel from an intake to its repository."""

from __future__ import annotations

from typing import Final

import grpc.aio

_OPTIONS: Final = (
    # The client of the upload retries; a second layer here would multiply its attempts.
    ("grpc.enable_retries", 0),
    # gRPC's own backoff grows to two minutes; a repository that is back is to be found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    # A repository that vanished without a word is noticed on streams that wait for it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # else a minute, whatever keepalive says
    # Streams go to every address that the name stands for, not all to the first one.
    ("grpc.lb_policy_name", "round_robin"),
)


def direct_channel(target: str) -> grpc.aio.Channel:
    """A channel in plain text, to be closed by the caller.

    Args:
        target: `host:port`, or a gRPC target such as `dns:///repository:50052`.
    """
    return grpc.aio.insecure_channel(target, options=_OPTIONS)
