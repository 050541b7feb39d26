"""Catalogue contract for drives."""

from __future__ import annotations

import asyncio

import pytest

from sluice_core.errors import AlreadyExists, NotFound
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from sluice_core.uploads.model import Integrity
from support.commits import BUCKET, DRIVE, TENANT

STRICT = DrivePolicy(
    integrity=Integrity.SHA256_BEFORE_VISIBLE,
    part_bytes=16 * 1024 * 1024,
    require_uniform=True,
    read_only=True,
    storage_class="STANDARD_IA",
    encryption="aws:kms",
)


async def test_drive_round_trips(catalogue: Catalogue) -> None:
    made = await catalogue.create_drive(TENANT, "archive", "cold", "old/", STRICT)
    assert await catalogue.get_drive(TENANT, "archive") == made
    assert (made.bucket, made.key_prefix, made.policy) == ("cold", "old/", STRICT)


async def test_creating_the_same_drive_again_changes_nothing(catalogue: Catalogue) -> None:
    first = await catalogue.get_drive(TENANT, DRIVE)
    assert await catalogue.create_drive(TENANT, DRIVE, BUCKET, "", DrivePolicy()) == first


@pytest.mark.parametrize(
    ("bucket", "prefix", "policy"),
    [("other", "", DrivePolicy()), (BUCKET, "p/", DrivePolicy()), (BUCKET, "", STRICT)],
)
async def test_different_drive_of_the_same_name_is_rejected(
    catalogue: Catalogue, bucket: str, prefix: str, policy: DrivePolicy
) -> None:
    with pytest.raises(AlreadyExists, match="DRIVE_EXISTS"):
        await catalogue.create_drive(TENANT, DRIVE, bucket, prefix, policy)
    assert (await catalogue.get_drive(TENANT, DRIVE)).policy == DrivePolicy()


async def test_two_tenants_have_drives_of_one_name(catalogue: Catalogue) -> None:
    await catalogue.create_drive("rival", DRIVE, "elsewhere", "", STRICT)
    assert (await catalogue.get_drive(TENANT, DRIVE)).bucket == BUCKET
    assert (await catalogue.get_drive("rival", DRIVE)).bucket == "elsewhere"


async def test_another_tenants_drive_is_unknown(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        await catalogue.get_drive("rival", DRIVE)
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        await catalogue.update_drive("rival", DRIVE, STRICT)


async def test_names_that_differ_in_case_are_two_drives(catalogue: Catalogue) -> None:
    await catalogue.create_drive(TENANT, DRIVE.upper(), "upper", "", DrivePolicy())
    assert (await catalogue.get_drive(TENANT, DRIVE)).bucket == BUCKET


async def test_drives_are_listed_by_name_page_by_page(catalogue: Catalogue) -> None:
    for name in ("b", "a", "c"):
        await catalogue.create_drive("lister", name, BUCKET, "", DrivePolicy())
    first = await catalogue.list_drives("lister", 2, "")
    assert [drive.name for drive in first.drives] == ["a", "b"]
    second = await catalogue.list_drives("lister", 2, first.next_after)
    assert [drive.name for drive in second.drives] == ["c"]
    assert second.next_after == ""


async def test_a_policy_is_replaced(catalogue: Catalogue) -> None:
    before = await catalogue.get_drive(TENANT, DRIVE)
    changed = await catalogue.update_drive(TENANT, DRIVE, STRICT)
    assert changed.policy == STRICT
    assert changed.created_at == before.created_at
    assert changed.updated_at >= before.updated_at
    assert await catalogue.get_drive(TENANT, DRIVE) == changed


async def test_updates_of_different_fields_do_not_conflict(catalogue: Catalogue) -> None:
    await asyncio.gather(
        catalogue.update_drive(TENANT, DRIVE, STRICT, frozenset({"read_only"})),
        catalogue.update_drive(TENANT, DRIVE, STRICT, frozenset({"part_bytes"})),
    )
    policy = (await catalogue.get_drive(TENANT, DRIVE)).policy
    assert policy == DrivePolicy(read_only=True, part_bytes=STRICT.part_bytes)


@pytest.mark.rule(14)
@pytest.mark.parametrize(
    ("tenant", "name", "prefix", "overlaps"),
    [
        ("rival", "d", "acme/album/", True),  # inside of the drive
        ("rival", "d", "acme/album/x/", True),
        ("rival", "d", "acme/", True),  # where acme's next drive may be
        ("acme/album", "d", "", True),
        ("rival", "d", "acme-album/", False),
        ("rival", "d", "acm/", False),
        ("rival", "d", "x/acme/", False),
        ("rival", "d", "ACME/album/", False),
        ("acm", "album", "", False),
        ("acme ", "album", "", False),
        ("rival", "album", "", False),
        ("acme", "d", "acme/album/", False),  # no other tenant's
        ("out", "er", "", True),  # around out/er/in/ of "inner"
        ("out", "e", "", False),
        ("é", "d", "", False),
        ("rival", "d", "é/", False),
    ],
)
async def test_drives_that_share_keys_are_found(
    catalogue: Catalogue, tenant: str, name: str, prefix: str, overlaps: bool
) -> None:
    await catalogue.create_drive("acme", "album", "shared", "", DrivePolicy())
    await catalogue.create_drive("inner", "d", "shared", "out/er/in/", DrivePolicy())
    await catalogue.create_drive("acme", "else", "elsewhere", "", DrivePolicy())
    found = await catalogue.drives_overlapping(tenant, name, ["shared", ""], prefix)
    assert bool(found) is overlaps
    assert not await catalogue.drives_overlapping(tenant, name, ["third"], prefix)
