"""Limits of connections to MySQL or MariaDB."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MysqlOptions:
    """Limits of one process's use of the server.

    A process opens at most `max_connections`; further callers wait `pool_timeout_seconds` for one.
    A transaction, including its retries after deadlocks, ends within `transaction_seconds` and
    waits `lock_wait_seconds` for each lock.
    """

    max_connections: int = 16
    pool_timeout_seconds: float = 5.0
    connect_timeout_seconds: float = 5.0
    transaction_seconds: float = 20.0
    lock_wait_seconds: int = 5
    recycle_seconds: float = 240.0
    """Age at which idle connections are replaced; below the idle timeout of proxies and load
    balancers, which drop connections silently."""
    migration_lock_seconds: int = 60
    """How long a migration waits for one of another process."""
