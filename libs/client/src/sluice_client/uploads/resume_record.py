"""Best-effort journal of one upload: without one, the upload cannot be resumed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sluice_client.tasks import in_thread
from sluice_client.uploads.journal import Entry, Journal

T = TypeVar("T")

# The SDK logs sentences for its user, not the events of the services.
_sdk_log = logging.getLogger("sluice_client")

NO_JOURNAL = "no resume journal can be kept"
"""Beginning of the warning."""


def not_kept_text(error: OSError) -> str:
    """Return the warning that a journal cannot be written: which path, why, what to do."""
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{NO_JOURNAL} ({where}{error.strerror or error}); the upload continues and"
        " restarts if it is interrupted. Set SLUICE_STATE_DIR to a writable folder"
    )


class JournalWarning:
    """Warns once per client that no journal can be kept: by the upload's notice, or the log."""

    def __init__(self) -> None:
        self._given = False

    def give(self, error: OSError, notify: Callable[[str], None] | None) -> None:
        if self._given:
            return
        self._given = True
        if notify is not None:
            notify(not_kept_text(error))
        else:
            _sdk_log.warning("%s", not_kept_text(error))


class ResumeRecord:
    """Best-effort record of one upload; no method raises OSError.

    An upload does not need its journal. Where none can be written (a read-only home, a full disk),
    it proceeds without, and another run cannot resume it.

    Args:
        journal: entered; None when there is none.
        failed: called with the error that makes the journal unusable.
    """

    def __init__(
        self, journal: Journal | None, failed: Callable[[OSError], None] = lambda _: None
    ) -> None:
        self._journal = journal
        self._failed = failed
        self._saved = False

    @property
    def enabled(self) -> bool:
        """Whether the next `save` is worth trying."""
        return self._journal is not None

    @property
    def kept(self) -> bool:
        """Whether another run can resume this upload."""
        return self._saved

    async def load(self) -> Entry | None:
        """Return the entry of an earlier run, or None if there is no complete one."""
        entry = await self._try(Journal.load)
        self._saved = entry is not None
        return entry

    async def save(self, entry: Entry) -> None:
        """Save the entry. On failure the previous one stays, which names the same upload."""
        if await self._try(lambda journal: _saved(journal, entry)):
            self._saved = True

    async def remove(self) -> None:
        """Remove the entry: the upload has ended, or is not to be resumed."""
        await self._try(Journal.remove)
        self._saved = False

    async def _try(self, step: Callable[[Journal], T]) -> T | None:
        if self._journal is None:
            return None
        try:
            return await in_thread(step, self._journal)
        except OSError as error:
            self._journal = None
            self._failed(error)
            return None


def _saved(journal: Journal, entry: Entry) -> bool:
    journal.save(entry)
    return True


@contextmanager
def resume_record(
    opened: Callable[[], Journal], failed: Callable[[OSError], None]
) -> Iterator[ResumeRecord]:
    """Hold the journal that `opened` returns, or none when that fails. Raise UploadBusy."""
    try:
        journal = opened()
        journal.__enter__()
    except OSError as error:
        failed(error)
        yield ResumeRecord(None)
        return
    try:
        yield ResumeRecord(journal, failed)
    finally:
        journal.__exit__(None, None, None)
