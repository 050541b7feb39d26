"""Tests of `DriveRegistry`: creation, lookup and key prefixes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_backends.sql.catalogue import open_catalogue
from sluice_core.errors import InvalidArgument, NotFound
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from sluice_repository.rpc.drives import DriveRegistry
from support.catalogue_files import empty_catalogue


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[Catalogue]:
    async with open_catalogue(await empty_catalogue(tmp_path)) as opened:
        yield opened


async def test_auto_create_creates_unknown_drive_on_first_use(
    catalogue: Catalogue,
) -> None:
    drives = DriveRegistry(catalogue, default_bucket="sluice", auto_create=True)
    calls = (drives.get("t", "new", create=True) for _ in range(2))
    first, second = [found.drive for found in await asyncio.gather(*calls)]
    assert first == second
    assert (first.bucket, first.key_prefix, first.policy) == ("sluice", "", DrivePolicy())


async def test_only_a_caller_that_may_creates_a_drive(catalogue: Catalogue) -> None:
    drives = DriveRegistry(catalogue, auto_create=True)
    for call in (drives.find("t", "new"), drives.get("t", "new")):
        with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
            await call
    assert not (await drives.list("t", 10, "")).drives


async def test_unknown_drive_without_auto_create_is_not_found(catalogue: Catalogue) -> None:
    drives = DriveRegistry(catalogue, auto_create=False)
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        await drives.get("t", "new", create=True)
    assert not (await drives.list("t", 10, "")).drives


async def test_existing_drive_keeps_its_settings_on_use(catalogue: Catalogue) -> None:
    drives = DriveRegistry(catalogue, auto_create=True)
    made = await drives.create("t", "mine", "elsewhere", "p/", DrivePolicy(read_only=True))
    assert (await drives.get("t", "mine", create=True)).drive == made


async def test_invalid_name_creates_no_drive(catalogue: Catalogue) -> None:
    drives = DriveRegistry(catalogue, auto_create=True)
    with pytest.raises(InvalidArgument, match="BAD_DRIVE_NAME"):
        await drives.get("t", "a/b", create=True)


@pytest.mark.rule(14)
async def test_key_prefix_overlapping_other_tenants_is_refused(catalogue: Catalogue) -> None:
    drives = DriveRegistry(catalogue, default_bucket="sluice", auto_create=True)
    own = await drives.create("acme", "photos", "", "", DrivePolicy())
    for prefix in ("acme/photos/", "acme/photos/x/", "acme/"):
        with pytest.raises(InvalidArgument, match="BAD_KEY_PREFIX"):
            await drives.create("rival", "d", "", prefix, DrivePolicy())
        with pytest.raises(InvalidArgument, match="BAD_KEY_PREFIX"):
            await drives.create("rival", "d", "sluice", prefix, DrivePolicy())
    assert not (await drives.list("rival", 10, "")).drives
    elsewhere = await drives.create("rival", "d", "another", "acme/photos/", DrivePolicy())
    assert await drives.create("rival", "d", "another", "acme/photos/", DrivePolicy()) == elsewhere
    assert await drives.create("acme", "photos", "", "", DrivePolicy()) == own


async def test_older_overlapping_drive_is_still_returned(catalogue: Catalogue) -> None:
    """It was created before overlapping prefixes were refused."""
    drives = DriveRegistry(catalogue, default_bucket="sluice", auto_create=True)
    made = await catalogue.create_drive("rival", "d", "sluice", "acme/photos/", DrivePolicy())
    await catalogue.create_drive("acme", "photos", "sluice", "", DrivePolicy())
    assert await drives.create("rival", "d", "", "acme/photos/", DrivePolicy()) == made
