"""Connection options of the Redis adapters."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Address of Redis, limits and required durability.

    Args:
        url: `redis://[user:password@]host:port/0`, `rediss://` for TLS, `unix://` for a socket.
            With `cluster`, any one master; the others are discovered.
        shards: number of shards of uploads (queue, index and deadlines). The same in every process
            of a deployment; do not change it while uploads are in flight.
        max_connections: per server; further callers wait.
        operation_timeout_seconds: limit of one command or script, waiting for a connection
            included.
        replicas_to_wait: replicas that must have a chunk before it is acknowledged, with the
            durability class `replicated` (docs/protocol.md, rule 6).
        memory_high_fraction: of `maxmemory`; above it no chunk is admitted.
        allow_unsafe: log a warning, not an error, for a server without the required durability.
    """

    url: str = field(repr=False)  # may hold a password
    cluster: bool = False
    shards: int = 16
    max_connections: int = 64
    connect_timeout_seconds: float = 5.0
    operation_timeout_seconds: float = 5.0
    replicas_to_wait: int = 1
    wait_timeout_ms: int = 1000
    memory_high_fraction: float = 0.9
    allow_unsafe: bool = False

    def __post_init__(self) -> None:
        for name in ("shards", "max_connections", "replicas_to_wait", "wait_timeout_ms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is below 1; set at least 1")
        for name in ("connect_timeout_seconds", "operation_timeout_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is not positive; set more than 0")
        if not 0 < self.memory_high_fraction <= 1:
            raise ValueError("memory_high_fraction is out of range; set more than 0, at most 1")
