"""The options of the background roles: sizes and times."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_core.uploads.model import MIB
from sluice_core.uploads.partial import ABANDONED_SECONDS


@dataclass(frozen=True, slots=True)
class RepositoryOptions:
    """Sizes and times of the background roles.

    A part worker holds a few blocks of at most 1 MiB: about 4 MiB of memory per worker. The lease
    must be longer than two heartbeats, because one may be lost (protocol.md, rule 15).
    """

    part_workers: int = 16
    completion_workers: int = 4
    lease_seconds: float = 15.0
    heartbeat_seconds: float = 5.0
    take_wait_seconds: float = 1.0
    """Longest wait on the queue before a worker checks the stop signal again."""
    retry_base_seconds: float = 0.25
    retry_cap_seconds: float = 30.0
    part_timeout_seconds: float = 300.0
    """Time limit for storing one part or assembling one object."""
    read_timeout_seconds: float = 60.0
    """Time limit for each block of an object that is read back."""
    call_timeout_seconds: float = 30.0
    """Time limit for any other backend call."""
    sweep_interval_seconds: float = 10.0
    leftover_age_seconds: float = 600.0
    intent_age_seconds: float = 3600.0
    partial_age_seconds: float = ABANDONED_SECONDS
    """Age at which the node of a partial upload by tus counts as abandoned."""
    audit_retention_seconds: float = 365 * 24 * 3600.0
    """0 keeps the entries of the audit log for ever."""
    reservation_age_seconds: float = 60.0
    """Age at which a quota reservation is compared with the ledger."""
    open_reservation_seconds: float = 540.0
    """Added to that age for uploads that were open at the last comparison: their own end releases
    them."""
    reconcile_interval_seconds: float = 3600.0
    """Interval in which the usage of a drive is compared with its nodes."""
    gauge_interval_seconds: float = 5.0
    relay_poll_seconds: float = 0.2
    relay_idle_after_seconds: float = 5.0
    """Time without events after which the relay polls less often …"""
    relay_idle_poll_seconds: float = 0.5
    """… which is the longest delay of the first event after it."""
    relay_linger_seconds: float = 0.1
    """Batching delay after a page that was not full."""
    relay_batch_events: int = 500
    relay_lease_seconds: float = 15.0
    publish_timeout_seconds: float = 10.0
    verify_interval_seconds: float = 5.0
    verify_bytes_per_second: int = 128 * MIB
    drain_seconds: float = 8.0
    """Time for items in progress after a stop; then they are returned (10 s is guaranteed)."""

    def __post_init__(self) -> None:
        if self.lease_seconds <= 2 * self.heartbeat_seconds:
            raise ValueError("lease_seconds must be more than twice heartbeat_seconds; raise it.")
        if self.part_workers < 1 or self.completion_workers < 1:
            raise ValueError("part_workers and completion_workers must be at least 1.")

    def relay_pause_seconds(self, idle_seconds: float) -> float:
        """Return when the relay polls next, after so long without an event or a wake-up.

        What completes in this process wakes the relay at once. Events of other processes, such as a
        gateway's, wait for the next poll.
        """
        if idle_seconds < self.relay_idle_after_seconds:
            return self.relay_poll_seconds
        return max(self.relay_poll_seconds, self.relay_idle_poll_seconds)
