"""Access of callers to uploads; an unknown upload is either not found or lost (rule 28)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sluice_core.access.actions import Action
from sluice_core.access.decisions import Decision, NamedDrive, depends_on_grants, may
from sluice_core.access.principal import Principal
from sluice_core.errors import NotFound, PermissionDenied
from sluice_core.ports import LifecycleLedger
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.uploads.ids import nonce_of
from sluice_core.uploads.model import UploadOwner, UploadSnapshot
from sluice_core.uploads.names import check_upload_id
from sluice_intake.drives import DriveDirectory

RECHECK_SECONDS: Final = 60.0
"""Interval in which a stream or a watch checks again that its caller still may."""

_MAX_LOOK_UPS: Final = 8
"""Drives of a page that are looked up at a time."""

_LEDGER_ID = re.compile(r"[^-]+-[0-9a-f]{32}")
"""The form of an upload id that a ledger issued: its nonce, then 32 hex digits."""


class UploadGuard:
    """Decides who may do what with an upload.

    The ledger knows the owner of an upload and the directory the grants of its drive, both from a
    cache in most cases. What does not depend on grants asks no directory.
    """

    def __init__(self, ledger: LifecycleLedger, drives: DriveDirectory) -> None:
        self._ledger = ledger
        self._drives = drives

    async def check(self, principal: Principal, action: Action, upload_id: str) -> None:
        """Check that the caller may do this, before a step that reads the upload.

        Raise `InvalidArgument` BAD_UPLOAD_ID, `NotFound` UPLOAD_LOST, UPLOAD_NOT_FOUND or
        DRIVE_NOT_FOUND, `PermissionDenied` MISSING_SCOPE or NOT_GRANTED, `Unavailable`
        DRIVES_UNAVAILABLE. The error for another tenant's upload is that for an unknown one, after
        the same read. An upload that was purged may pass; the step reports it.
        """
        check_upload_id(upload_id)
        with reporting_lost_uploads(self._ledger, upload_id):
            owner = await self._ledger.owner_of(upload_id, caller=principal.tenant)
        await self._check_owner(principal, action, upload_id, owner)

    async def find(self, principal: Principal, action: Action, upload_id: str) -> UploadSnapshot:
        """Return the upload if the caller may do this. Raise the errors of `check`."""
        check_upload_id(upload_id)
        with reporting_lost_uploads(self._ledger, upload_id):
            owner = await self._ledger.owner_of(upload_id, caller=principal.tenant)
            if owner.tenant != principal.tenant:
                raise _unknown_upload(self._ledger, upload_id)
            snapshot = await self._ledger.get(upload_id)
        await self._check_owner(principal, action, upload_id, snapshot.new.owner)
        return snapshot

    async def visible(
        self, principal: Principal, uploads: Iterable[UploadSnapshot]
    ) -> list[UploadSnapshot]:
        """Return those of the tenant's uploads that the caller may see in a listing.

        Of a drive that is deleted, or that the repository does not show to the caller, only the
        caller's own. Raise `Unavailable` DRIVES_UNAVAILABLE.
        """
        seen: list[UploadSnapshot] = []
        page, action = tuple(uploads), Action.LIST_UPLOADS
        needed = {
            one.new.owner.drive: one.new.owner
            for one in page
            if depends_on_grants(principal, action, one.new.owner.subject)
        }
        drives = await self._find_drives(needed)
        for upload in page:
            owner = upload.new.owner
            if not depends_on_grants(principal, action, owner.subject):
                decision = _decide_by_name(principal, action, owner)
            else:
                drive = drives[owner.drive]
                if drive is None:
                    continue
                decision = drive.may(principal, action, owner.subject)
            if decision.allowed:
                seen.append(upload)
        return seen

    def recheck(self, principal: Principal, action: Action, upload_id: str) -> Recheck:
        """Return the repeated check of a call that was checked just now."""
        return Recheck(self, principal, action, upload_id)

    async def _check_owner(
        self, principal: Principal, action: Action, upload_id: str, owner: UploadOwner
    ) -> None:
        if owner.tenant != principal.tenant:
            raise _unknown_upload(self._ledger, upload_id)
        if not depends_on_grants(principal, action, owner.subject):
            _decide_by_name(principal, action, owner).enforce()
            return
        drive = await self._drives.get(owner.tenant, owner.drive)
        drive.may(principal, action, owner.subject).enforce()

    async def _find_drives(
        self, needed: Mapping[str, UploadOwner]
    ) -> Mapping[str, DriveWithGrants | None]:
        """Return the drives by name, None for one that the caller may not get.

        Refusals are not cached, so a page may need a call for each of its drives.
        """
        found: dict[str, DriveWithGrants | None] = {}
        names = list(needed)
        for start in range(0, len(names), _MAX_LOOK_UPS):
            some = names[start : start + _MAX_LOOK_UPS]
            answers = await asyncio.gather(
                *(self._find_drive(needed[name]) for name in some), return_exceptions=True
            )
            for name, answer in zip(some, answers, strict=True):
                if isinstance(answer, BaseException):
                    raise answer
                found[name] = answer
        return found

    async def _find_drive(self, owner: UploadOwner) -> DriveWithGrants | None:
        try:
            return await self._drives.get(owner.tenant, owner.drive)
        except (NotFound, PermissionDenied):
            return None


class Recheck:
    """Repeats a check for as long as a call lasts, so that a revocation ends it."""

    def __init__(
        self,
        guard: UploadGuard,
        principal: Principal,
        action: Action,
        upload_id: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard = guard
        self._call = (principal, action, upload_id)
        self._clock = clock
        self._due_at = clock() + RECHECK_SECONDS

    async def run_if_due(self) -> None:
        """Check again when the last check is a minute old. Raise the errors of `check`."""
        if self._clock() >= self._due_at:
            await self._guard.check(*self._call)
            self._due_at = self._clock() + RECHECK_SECONDS


def _decide_by_name(principal: Principal, action: Action, owner: UploadOwner) -> Decision:
    drive = NamedDrive(owner.tenant, owner.drive)
    return may(principal, action, drive, upload_subject=owner.subject)


@contextmanager
def reporting_lost_uploads(ledger: LifecycleLedger, upload_id: str) -> Iterator[None]:
    """Convert the ledger's UPLOAD_NOT_FOUND to UPLOAD_LOST if another ledger issued the id.

    A ledger that was emptied or replaced has another nonce than the one in the id.
    """
    try:
        yield
    except NotFound as error:
        if error.reason != "UPLOAD_NOT_FOUND":
            raise
        raise _unknown_upload(ledger, upload_id) from None


def _unknown_upload(ledger: LifecycleLedger, upload_id: str) -> NotFound:
    if _LEDGER_ID.fullmatch(upload_id) and nonce_of(upload_id) != ledger.nonce:
        return NotFound(
            "UPLOAD_LOST",
            "The server lost its record of this upload; initiate it again and send every chunk.",
        )
    return NotFound("UPLOAD_NOT_FOUND", "There is no such upload; initiate one.")
