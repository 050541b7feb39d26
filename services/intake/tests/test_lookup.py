"""Uploads of a listing that a caller may see."""

from __future__ import annotations

import asyncio

import pytest

from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.access.grants import Access
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import PermissionDenied, SluiceError, Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports.catalogue import Drive, DrivePolicy
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.uploads.model import UploadSnapshot
from sluice_intake.drives import DefaultDrives
from sluice_intake.lookup import UploadGuard
from support.ledgers import Driver, FakeClock
from support.virtual_time import in_virtual_time

BOB = Principal("acme", "bob", frozenset({Scope.UPLOADS_READ}))
"""The uploads of a `Driver` are those of ann."""


class SlowDrives(DefaultDrives):
    """A directory that takes a second for each drive."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: dict[str, SluiceError] = {}
        self.closed: set[str] = set()

    async def get(
        self, tenant: str, name: str, *, create: bool = False, with_grants: bool = True
    ) -> DriveWithGrants:
        self.calls.append(name)
        await asyncio.sleep(1.0)
        if name in self.failures:
            raise self.failures[name]
        access = Access.GRANTS if name in self.closed else Access.TENANT
        return DriveWithGrants(
            Drive(tenant, name, "", "", DrivePolicy(access=access), created_at=0.0, updated_at=0.0)
        )


async def page_of(drives: list[str]) -> list[UploadSnapshot]:
    driver = Driver(MemoryLedger(LedgerOptions()), FakeClock())
    return [await driver.ledger.create(driver.new(drive=drive)) for drive in drives]


@in_virtual_time
async def test_drives_of_a_page_are_looked_up_together() -> None:
    """Each of them once, a few at a time."""
    names = [f"d{number}" for number in range(20)]
    drives = SlowDrives()
    drives.failures["d3"] = PermissionDenied("NOT_GRANTED", "Ask for a role.")
    drives.closed.add("d17")
    uploads = await page_of(names * 2)
    guard = UploadGuard(MemoryLedger(LedgerOptions()), drives)
    seen = await guard.visible(BOB, uploads)
    assert [one.new.drive for one in seen] == [
        name for name in names * 2 if name not in {"d3", "d17"}
    ]
    assert sorted(drives.calls) == sorted(names)
    assert asyncio.get_running_loop().time() == 3.0


@in_virtual_time
async def test_listing_fails_while_a_drive_is_unknown() -> None:
    drives = SlowDrives()
    drives.failures["d1"] = Unavailable("DRIVES_UNAVAILABLE", "Not now.")
    guard = UploadGuard(MemoryLedger(LedgerOptions()), drives)
    with pytest.raises(Unavailable):
        await guard.visible(BOB, await page_of(["d0", "d1", "d2"]))
