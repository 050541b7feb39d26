"""In-process notification of tasks that wait for an upload or for room (rule 27)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Notifier:
    """asyncio events by upload id; an entry exists only while a task listens. One event loop.

    A notification carries no state: the woken task reads the ledger again, and polls as a fallback.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def waited_for(self) -> frozenset[str]:
        """Return the uploads that have listeners."""
        return frozenset(self._waiting)

    @contextmanager
    def listen(self, upload_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that every later notification of the upload sets; clear it to reuse it."""
        event = asyncio.Event()
        listeners = self._waiting.setdefault(upload_id, set())
        listeners.add(event)
        try:
            yield event
        finally:
            listeners.discard(event)
            if not listeners and self._waiting.get(upload_id) is listeners:
                del self._waiting[upload_id]

    def notify(self, upload_ids: Iterable[str]) -> None:
        """Wake the listeners of these uploads."""
        for upload_id in upload_ids:
            for event in self._waiting.get(upload_id, ()):
                event.set()

    def notify_all(self) -> None:
        """Wake the listeners of all uploads."""
        self.notify(self._waiting)
