"""Progress of an upload or a download, as reported to its caller."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sluice_client.errors import SluiceError


class Phase(StrEnum):
    STARTING = "starting"
    SENDING = "sending"
    THROTTLED = "throttled"
    """The server throttles the upload; the stream stays open."""
    WAITING = "waiting"
    """No connection, or a retryable refusal; retrying."""
    COMPLETING = "completing"
    """All bytes are in; the server assembles the object."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Progress:
    """Snapshot of a transfer; sizes are bytes."""

    phase: Phase
    total_bytes: int | None
    """None while the source's size is unknown."""
    sent_bytes: int
    """Passed to the connection; bytes sent twice count twice."""
    accepted_bytes: int
    """Acknowledged by the server, `skipped_bytes` included."""
    stored_bytes: int
    """Known to be in the object store."""
    skipped_bytes: int
    """Already on the server when this run began."""
    notice: str = ""
    """A message for people, e.g. why the upload restarts; each at most once."""
    waiting_for: str = ""
    """Reason that a stalled transfer waits for; empty while it moves."""


_WAITS = frozenset({Phase.THROTTLED, Phase.WAITING, Phase.COMPLETING})

ProgressCallback = Callable[[Progress], None]
"""Called on the event loop, at most every 50 ms and at every change of phase; must not block."""

_REPORT_SECONDS = 0.05
_NOTICE_AFTER_SECONDS = 5.0
"""A wait of this length becomes a notice; shorter ones are common."""


class Meter:
    """Counts for one transfer and calls its callback now and then."""

    def __init__(
        self,
        callback: ProgressCallback | None,
        total_bytes: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._callback = callback
        self._clock = clock
        self._reported_at = float("-inf")
        self.total_bytes = total_bytes
        self.phase = Phase.STARTING
        self.sent_bytes = 0
        self.accepted_bytes = 0
        self.stored_bytes = 0
        self.skipped_bytes = 0
        self._waiting_for = ""
        self._notified: set[str] = set()
        """Waits that became a notice since the last progress."""

    def sent(self, size: int) -> None:
        self.sent_bytes += size
        self._report(Phase.SENDING)

    def accepted(self, size: int) -> None:
        self.accepted_bytes += size
        self._notified.clear()
        self._report(Phase.SENDING)

    def skipped(self, size: int) -> None:
        self.accepted_bytes += size
        self.skipped_bytes += size
        self._report(self.phase)

    def taken_back(self, size: int) -> None:
        """Subtract a chunk that the server returned to "missing" (rule 8)."""
        self.accepted_bytes -= size
        self._report(self.phase)

    def stored(self, total_stored: int) -> None:
        if total_stored > self.stored_bytes:
            self.stored_bytes = total_stored
            self._report(self.phase)

    def enter(self, phase: Phase, notice: str = "") -> None:
        self._report(phase, notice)

    def notify(self, notice: str) -> None:
        """Report a notice, in any phase."""
        self._report(self.phase, notice)

    def wait(self, phase: Phase, what: str, idle_seconds: float) -> None:
        """Record that nothing has moved for so long because of `what`; give a notice once long
        enough.
        """
        known, self._waiting_for = self._waiting_for, what
        notice = ""
        if idle_seconds >= _NOTICE_AFTER_SECONDS and what not in self._notified:
            self._notified.add(what)
            notice = f"waiting: {what}"
        self._report(phase, notice, changed=known != what)

    def wait_for_retry(self, error: SluiceError, idle_seconds: float) -> None:
        """Record a failed attempt that will be retried: a `Patience.on_wait`."""
        text = f"{error.message.rstrip('.')} [{error.reason}]"
        self.wait(Phase.WAITING, text, idle_seconds)

    def restart(self, notice: str) -> None:
        """Reset all acknowledged counts; `sent_bytes` continues."""
        self.accepted_bytes = self.stored_bytes = self.skipped_bytes = 0
        self._report(Phase.STARTING, notice)

    def _report(self, phase: Phase, notice: str = "", *, changed: bool = False) -> None:
        changed = changed or phase is not self.phase
        self.phase = phase
        if phase not in _WAITS:
            self._waiting_for = ""
        if self._callback is None:
            return
        now = self._clock()
        if not (changed or notice) and now - self._reported_at < _REPORT_SECONDS:
            return
        self._reported_at = now
        self._callback(
            Progress(
                phase=phase,
                total_bytes=self.total_bytes,
                sent_bytes=self.sent_bytes,
                accepted_bytes=self.accepted_bytes,
                stored_bytes=self.stored_bytes,
                skipped_bytes=self.skipped_bytes,
                notice=notice,
                waiting_for=self._waiting_for,
            )
        )
