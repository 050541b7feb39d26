"""Homes of users: a drive of their own in their own tenant."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from sluice_core.access.actions import Action
from sluice_core.access.audit import AuditEntry, drive_object
from sluice_core.errors import AlreadyExists, NotFound
from sluice_core.ports.catalogue import DriveCatalogue, DrivePolicy

HOME_DRIVE: Final = "photos"


class CatalogueHomes:
    """`Homes` in the catalogue.

    Objects of a user lie at `{key_prefix}{user id}/photos/…`, so that a rule of the store can name
    the user.
    """

    def __init__(self, catalogue: DriveCatalogue, bucket: str, key_prefix: str) -> None:
        self._catalogue = catalogue
        self._bucket = bucket
        self._key_prefix = key_prefix

    async def prepare_home(self, user_id: str) -> None:
        """Create the user's drive unless it exists. A read in most cases."""
        try:
            await self._catalogue.get_drive(user_id, HOME_DRIVE)
        except NotFound:
            await self._create(user_id)

    async def _create(self, user_id: str) -> None:
        audit = AuditEntry(user_id, user_id, Action.CREATE_DRIVE.value, drive_object(HOME_DRIVE))
        # A concurrent call may have created it under another setting: that one stands.
        with suppress(AlreadyExists):
            await self._catalogue.create_drive(
                user_id, HOME_DRIVE, self._bucket, self._key_prefix, DrivePolicy(), audit=audit
            )
