"""Waking those who wait for an upload, or for room, inside one process (rule 27).

A wake-up only: whoever is woken looks at the ledger again, and polls as a fallback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Notifier:
    """Events by upload id; an entry lives only while somebody waits. One event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def waited_for(self) -> frozenset[str]:
        """The uploads that somebody waits for."""
        return frozenset(self._waiting)

    @contextmanager
    def listen(self, upload_id: str) -> Iterator[asyncio.Event]:
        """An event that is set by every ring for the upload from now on; clear it to go on."""
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
        """Wake everybody."""
        self.notify(self._waiting)
