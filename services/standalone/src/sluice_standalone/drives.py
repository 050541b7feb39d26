"""The drive directory of the standalone: a short cache in front of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from sluice_core.ports.catalogue import Catalogue
from sluice_intake.drives import CachedDrives
from sluice_repository.rpc.drives import DriveRegistry

FRESH_SECONDS: Final = 1.0
"""Age at which a drive is read again: another process on the same database may change it."""

_CHANGES: Final = frozenset(
    {"update_drive", "delete_drive", "put_grant", "remove_grant", "set_quota"}
)
"""Methods of a catalogue that change what the directory says of a drive."""


def open_directory(catalogue: Catalogue, default_bucket: str) -> tuple[CachedDrives, Catalogue]:
    """Return the directory of the intake, and the catalogue for all that changes drives.

    Each chunk of a caller who is no administrator needs the drive with its grants, which are three
    statements. A change by way of the returned catalogue counts at once.
    """
    registry = DriveRegistry(catalogue, default_bucket=default_bucket, auto_create=True)
    directory = CachedDrives(registry, fresh_seconds=FRESH_SECONDS)
    changing = _NotifyingCatalogue(catalogue, directory.drop_all)
    return directory, cast("Catalogue", changing)


class _NotifyingCatalogue:
    """A catalogue that calls `changed` after each change of a drive, whatever its outcome is."""

    def __init__(self, catalogue: Catalogue, changed: Callable[[], None]) -> None:
        self._catalogue = catalogue
        self._changed = changed

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._catalogue, name)
        if name not in _CHANGES:
            return method

        async def change(*arguments: Any, **named: Any) -> Any:
            try:
                return await method(*arguments, **named)
            finally:
                self._changed()

        return change
