"""How the catalogue speaks to MySQL or MariaDB; the URL says where it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MysqlOptions:
    """Bounds of one process's use of the server.

    A process needs at most `max_connections` of the server's; callers beyond that wait
    `pool_timeout_seconds` for one. A transaction, its repetitions after deadlocks included, ends
    within `transaction_seconds`, and waits `lock_wait_seconds` for any one lock.
    """

    max_connections: int = 16
    pool_timeout_seconds: float = 5.0
    connect_timeout_seconds: float = 5.0
    transaction_seconds: float = 20.0
    lock_wait_seconds: int = 5
    recycle_seconds: float = 240.0
    """Idle connections older than this are replaced; below the idle limit of proxies and load
    balancers, which drop connections without a word."""
    migration_lock_seconds: int = 60
    """How long a migration waits for one of another process."""
