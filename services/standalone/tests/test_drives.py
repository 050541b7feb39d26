"""The drive directory of the standalone: few reads, and changes that count at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sluice_backends.sql.catalogue import open_catalogue
from sluice_core.access.grants import Access, Grantee, GranteeKind, Role
from sluice_core.errors import NotFound
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from sluice_core.ports.quotas import Quota
from sluice_intake.drives import CachedDrives
from sluice_standalone.drives import open_directory
from support.catalogue_files import empty_catalogue

TENANT, DRIVE = "acme", "photos"
ANN = Grantee(GranteeKind.SUBJECT, "ann")


class Place:
    def __init__(self, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        read = catalogue.get_drive

        async def counted(tenant: str, name: str) -> object:
            self.reads += 1
            return await read(tenant, name)

        monkeypatch.setattr(catalogue, "get_drive", counted)
        self.directory: CachedDrives
        self.directory, self.catalogue = open_directory(catalogue, "bucket")


@pytest.fixture
async def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    async with open_catalogue(await empty_catalogue(tmp_path)) as catalogue:
        await catalogue.create_drive(TENANT, DRIVE, "bucket", "", DrivePolicy())
        await catalogue.put_grant(TENANT, DRIVE, ANN, Role.READER)
        yield Place(catalogue, monkeypatch)


async def test_drive_of_many_calls_is_read_once(at: Place) -> None:
    for _ in range(50):
        assert (await at.directory.get(TENANT, DRIVE)).grants == {ANN: Role.READER}
    assert at.reads == 1


CHANGES: dict[str, Callable[[Catalogue], Awaitable[object]]] = {
    "access": lambda catalogue: catalogue.update_drive(
        TENANT, DRIVE, DrivePolicy(access=Access.GRANTS), frozenset({"access"})
    ),
    "grant": lambda catalogue: catalogue.put_grant(TENANT, DRIVE, ANN, Role.OWNER),
    "revocation": lambda catalogue: catalogue.remove_grant(TENANT, DRIVE, ANN),
    "quota": lambda catalogue: catalogue.set_quota(TENANT, DRIVE, Quota(max_nodes=1)),
    "quota of the tenant": lambda catalogue: catalogue.set_quota(TENANT, "", Quota(max_nodes=1)),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_change_of_a_drive_counts_at_once(at: Place, change: str) -> None:
    before = await at.directory.get(TENANT, DRIVE)
    await CHANGES[change](at.catalogue)
    assert await at.directory.get(TENANT, DRIVE) != before


async def test_deleted_drive_is_not_found_at_once(at: Place) -> None:
    await at.directory.get(TENANT, DRIVE)
    await at.catalogue.delete_drive(TENANT, DRIVE)
    with pytest.raises(NotFound):
        await at.directory.get(TENANT, DRIVE)
    assert (await at.directory.get(TENANT, DRIVE, create=True)).drive.name == DRIVE


async def test_read_that_a_change_overtakes_is_not_kept(
    at: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer may be older than the change."""
    read = at.catalogue.grants_of

    async def overtaken(tenant: str, drive: str) -> object:
        grants = await read(tenant, drive)
        await at.catalogue.remove_grant(TENANT, DRIVE, ANN)
        return grants

    with monkeypatch.context() as patch:
        patch.setattr(at.catalogue._catalogue, "grants_of", overtaken)  # type: ignore[attr-defined]
        await at.directory.get(TENANT, DRIVE)
    assert (await at.directory.get(TENANT, DRIVE)).grants == {}
