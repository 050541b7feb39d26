"""What an upload or a download tells the one who waits for it."""

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
    """The server asked for patience; the stream stays open."""
    WAITING = "waiting"
    """No connection, or turned away for now; trying again."""
    COMPLETING = "completing"
    """All bytes are in; the server puts the object together."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a transfer; sizes are bytes."""

    phase: Phase
    total_bytes: int | None
    """None while the source has not said."""
    sent_bytes: int
    """Given to the connection, those sent twice counted twice."""
    accepted_bytes: int
    """Acknowledged by the server, `skipped_bytes` included."""
    stored_bytes: int
    """Known to lie in the object store."""
    skipped_bytes: int
    """Already there when this run began."""
    notice: str = ""
    """Something worth telling a person, e.g. why the upload begins anew; at most once each."""
    waiting_for: str = ""
    """What a transfer that does not move waits for; empty while it moves."""


_WAITS = frozenset({Phase.THROTTLED, Phase.WAITING, Phase.COMPLETING})

ProgressCallback = Callable[[Progress], None]
"""Called on the event loop, at most every 50 ms and at every change of phase; must not block."""

_REPORT_SECONDS = 0.05
_NOTICE_AFTER_SECONDS = 5.0
"""A wait that takes this long becomes a notice; shorter ones happen all the time."""


class Meter:
    """Counts for one transfer and tells its callback now and then."""

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
        """Waits that became a notice since something moved."""

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
        """The server returned a chunk to "missing" (rule 8)."""
        self.accepted_bytes -= size
        self._report(self.phase)

    def stored(self, total_stored: int) -> None:
        if total_stored > self.stored_bytes:
            self.stored_bytes = total_stored
            self._report(self.phase)

    def enter(self, phase: Phase, notice: str = "") -> None:
        self._report(phase, notice)

    def notify(self, notice: str) -> None:
        """Pass on something worth telling, whatever the phase."""
        self._report(self.phase, notice)

    def wait(self, phase: Phase, what: str, idle_seconds: float) -> None:
        """Nothing has moved for so long, because of `what`; a notice once it is long enough."""
        known, self._waiting_for = self._waiting_for, what
        notice = ""
        if idle_seconds >= _NOTICE_AFTER_SECONDS and what not in self._notified:
            self._notified.add(what)
            notice = f"waiting: {what}"
        self._report(phase, notice, changed=known != what)

    def wait_for_retry(self, error: SluiceError, idle_seconds: float) -> None:
        """An attempt failed, and another one follows: a `Patience.on_wait`."""
        text = f"{error.message.rstrip('.')} [{error.reason}]"
        self.wait(Phase.WAITING, text, idle_seconds)

    def begin_anew(self, notice: str) -> None:
        """Everything that was acknowledged is gone; `sent_bytes` goes on counting."""
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
