"""Contract of quotas: limits, reservations, usage and its reconciliation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest
from sqlalchemy import delete, insert, text, update

from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_backends.sql.migrate import migrate
from sluice_backends.sql.schema import usage_changes, usage_totals
from sluice_core.errors import Aborted, NotFound, ResourceExhausted
from sluice_core.ports.catalogue import DrivePolicy, NodeCommit
from sluice_core.ports.quotas import Quota, Usage
from support.commits import BUCKET, DRIVE, TENANT, finished_upload, intent_of

OTHER = "videos"


async def usage_of(catalogue: SqlCatalogue, drive: str = DRIVE) -> Usage:
    return (await catalogue.get_quota(TENANT, drive))[1]


async def refusal_of(call: Awaitable[object]) -> ResourceExhausted:
    with pytest.raises(ResourceExhausted) as caught:
        await call
    assert caught.value.reason == "QUOTA_EXCEEDED"
    assert caught.value.retry_after_seconds is None
    return caught.value


async def commit(catalogue: SqlCatalogue, path: str, size: int, drive: str = DRIVE) -> NodeCommit:
    """Commit a node with its intent, as a completer does."""
    upload = finished_upload(path, content=b"x" * size, drive=drive)
    await catalogue.record_intent(intent_of(upload))
    await catalogue.commit_node(upload)
    return upload


async def test_quota_is_returned_until_it_is_cleared(catalogue: SqlCatalogue) -> None:
    quota = Quota(max_bytes=100, max_nodes=3, max_open_uploads=2)
    assert not (await catalogue.get_drive(TENANT, DRIVE)).has_quota
    for _ in range(2):
        await catalogue.set_quota(TENANT, DRIVE, quota)
    assert await catalogue.get_quota(TENANT, DRIVE) == (quota, Usage())
    assert (await catalogue.get_drive(TENANT, DRIVE)).has_quota
    await catalogue.set_quota(TENANT, DRIVE, Quota())
    assert await catalogue.get_quota(TENANT, DRIVE) == (Quota(), Usage())
    assert not (await catalogue.get_drive(TENANT, DRIVE)).has_quota


async def test_quota_of_the_tenant_applies_to_its_drives(catalogue: SqlCatalogue) -> None:
    await catalogue.create_drive("rival", DRIVE, BUCKET, "r/", DrivePolicy())
    await catalogue.create_drive(TENANT, OTHER, BUCKET, "", DrivePolicy())
    await catalogue.set_quota(TENANT, "", Quota(max_bytes=10))
    assert (await catalogue.get_drive(TENANT, OTHER)).has_quota
    assert not (await catalogue.get_drive("rival", DRIVE)).has_quota
    assert not await catalogue.reserve("rival", DRIVE, "r", 1_000)
    assert await catalogue.reserve(TENANT, DRIVE, "a", 6)
    error = await refusal_of(catalogue.reserve(TENANT, OTHER, "b", 5))
    assert error.metadata == {
        "scope": "tenant",
        "kind": "bytes",
        "limit": "10",
        "used": "0",
        "reserved": "6",
        "requested": "5",
    }
    assert await catalogue.reserve(TENANT, OTHER, "b", 4)
    assert await usage_of(catalogue, "") == Usage(reserved_bytes=10, open_uploads=2)
    assert await usage_of(catalogue, OTHER) == Usage(reserved_bytes=4, open_uploads=1)


async def test_unknown_drive_has_no_quota(catalogue: SqlCatalogue) -> None:
    for call in (
        catalogue.set_quota(TENANT, "none", Quota(1)),
        catalogue.get_quota(TENANT, "none"),
        catalogue.reserve(TENANT, "none", "u", 1),
    ):
        with pytest.raises(NotFound):
            await call


async def test_nothing_is_reserved_without_a_quota(catalogue: SqlCatalogue) -> None:
    assert not await catalogue.reserve(TENANT, DRIVE, "u", 1_000)
    assert await usage_of(catalogue) == Usage()


async def test_repeated_reservation_reserves_once(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(100, 1, 1))
    for size in (60, 60, 40, 100):
        assert await catalogue.reserve(TENANT, DRIVE, "u", size)
    assert await usage_of(catalogue) == Usage(reserved_bytes=100, open_uploads=1)
    await refusal_of(catalogue.reserve(TENANT, DRIVE, "u", 101))
    assert await usage_of(catalogue) == Usage(reserved_bytes=100, open_uploads=1)


@pytest.mark.parametrize(
    ("quota", "kind"),
    [
        (Quota(max_bytes=15), "bytes"),
        (Quota(max_nodes=1), "nodes"),
        (Quota(max_open_uploads=1), "open_uploads"),
    ],
)
async def test_each_limit_is_kept(catalogue: SqlCatalogue, quota: Quota, kind: str) -> None:
    await catalogue.set_quota(TENANT, DRIVE, quota)
    await catalogue.reserve(TENANT, DRIVE, "a", 10)
    error = await refusal_of(catalogue.reserve(TENANT, DRIVE, "b", 6))
    assert (error.metadata["scope"], error.metadata["kind"]) == ("drive", kind)
    await catalogue.release(TENANT, "a")
    assert await catalogue.reserve(TENANT, DRIVE, "b", 6)


async def test_commit_turns_a_reservation_into_usage(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=5))
    upload = finished_upload("a", content=b"12345")
    await catalogue.reserve(TENANT, DRIVE, upload.upload_id, 5)
    await catalogue.record_intent(intent_of(upload))
    for _ in range(2):
        await catalogue.commit_node(upload)
        assert await usage_of(catalogue) == Usage(bytes=5, nodes=1)
    await refusal_of(catalogue.reserve(TENANT, DRIVE, "b", 1))


async def test_replay_drops_a_late_reservation(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=50))
    upload = await commit(catalogue, "a", 5)
    await catalogue.reserve(TENANT, DRIVE, upload.upload_id, 5)
    assert not (await catalogue.commit_node(upload)).created
    assert await usage_of(catalogue) == Usage(bytes=5, nodes=1)


async def test_replay_over_a_full_quota_succeeds(catalogue: SqlCatalogue) -> None:
    upload = await commit(catalogue, "a", 5)
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=1))
    assert not (await catalogue.commit_node(upload)).created


async def test_commit_beyond_its_reservation_needs_room(catalogue: SqlCatalogue) -> None:
    """An upload that began before the quota, or that grew behind the intake's back."""
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=10))
    upload = finished_upload("a", content=b"1234567")
    await catalogue.record_intent(intent_of(upload))
    await catalogue.reserve(TENANT, DRIVE, upload.upload_id, 5)
    await catalogue.reserve(TENANT, DRIVE, "other", 4)
    error = await refusal_of(catalogue.commit_node(upload))
    assert error.metadata["requested"] == "2"
    assert await usage_of(catalogue) == Usage(reserved_bytes=9, open_uploads=2)
    with pytest.raises(NotFound):
        await catalogue.get_node(TENANT, upload.node_id)
    await catalogue.release(TENANT, "other")
    assert (await catalogue.commit_node(upload)).created
    assert await usage_of(catalogue) == Usage(bytes=7, nodes=1)


async def test_commit_without_reservation_is_checked(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, "", Quota(max_bytes=8))
    await commit(catalogue, "a", 5)
    upload = finished_upload("b", content=b"1234")
    await catalogue.record_intent(intent_of(upload))
    await refusal_of(catalogue.commit_node(upload))
    assert await usage_of(catalogue) == Usage(bytes=5, nodes=1)


async def test_superseding_node_takes_the_place_of_the_old(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=8, max_nodes=1))
    await commit(catalogue, "a", 5)
    await commit(catalogue, "a", 8)
    assert await usage_of(catalogue) == Usage(bytes=8, nodes=1)
    await commit(catalogue, "a", 1)
    assert await usage_of(catalogue) == Usage(bytes=1, nodes=1)


async def test_refused_commits_change_no_usage(catalogue: SqlCatalogue) -> None:
    await commit(catalogue, "a", 5)
    taken = finished_upload("a", if_absent=True)
    late = finished_upload("b")
    await catalogue.record_intent(intent_of(late))
    await catalogue.clear_intent(late.upload_id, late.object)
    with pytest.raises(Aborted):
        await catalogue.commit_node(late)
    with pytest.raises(Exception, match="PATH_EXISTS"):
        await catalogue.commit_node(taken)
    assert await usage_of(catalogue) == Usage(bytes=5, nodes=1)


async def test_deletion_gives_room_back(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=5))
    upload = await commit(catalogue, "a", 5)
    for _ in range(2):
        await catalogue.delete_node(TENANT, upload.node_id)
        assert await usage_of(catalogue) == Usage()
    assert await catalogue.reserve(TENANT, DRIVE, "b", 5)


async def test_adopted_object_counts_beyond_the_quota(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=3))
    adopted = finished_upload("a", content=b"12345")
    assert (await catalogue.adopt_object(adopted)) is not None
    assert await usage_of(catalogue) == Usage(bytes=5, nodes=1)
    await refusal_of(catalogue.reserve(TENANT, DRIVE, "b", 1))


async def test_deleted_drive_loses_its_quota(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=3))
    await catalogue.delete_drive(TENANT, DRIVE)
    await catalogue.create_drive(TENANT, DRIVE, BUCKET, "", DrivePolicy())
    assert await catalogue.get_quota(TENANT, DRIVE) == (Quota(), Usage())


async def test_reservation_is_of_its_drive_and_tenant(catalogue: SqlCatalogue) -> None:
    """A caller who knows an upload id can neither take nor release its room elsewhere."""
    await catalogue.create_drive(TENANT, OTHER, BUCKET, "", DrivePolicy())
    await catalogue.create_drive("rival", DRIVE, BUCKET, "r/", DrivePolicy())
    for tenant, drive in ((TENANT, DRIVE), (TENANT, OTHER), ("rival", DRIVE)):
        await catalogue.set_quota(tenant, drive, Quota(max_bytes=10))
    await catalogue.reserve("rival", DRIVE, "u", 9)
    await catalogue.reserve(TENANT, OTHER, "u", 9)
    await catalogue.reserve(TENANT, DRIVE, "u", 7)
    await catalogue.release("rival", "u")
    await catalogue.release(TENANT, "u", OTHER)
    assert await usage_of(catalogue) == Usage(reserved_bytes=7, open_uploads=1)
    assert await usage_of(catalogue, OTHER) == Usage()


async def test_usage_is_the_same_after_folding(catalogue: SqlCatalogue) -> None:
    await catalogue.create_drive(TENANT, OTHER, BUCKET, "", DrivePolicy())
    for number in range(5):
        await commit(catalogue, f"a{number}", number)
    await commit(catalogue, "b", 7, OTHER)
    before = [await usage_of(catalogue, drive) for drive in (DRIVE, OTHER, "")]
    assert before[2] == Usage(bytes=17, nodes=6)
    folded = [await catalogue.fold_usage(4) for _ in range(3)]
    assert folded == [4, 2, 0]
    assert [await usage_of(catalogue, drive) for drive in (DRIVE, OTHER, "")] == before


async def test_concurrent_folds_count_once(catalogue: SqlCatalogue) -> None:
    for number in range(20):
        await commit(catalogue, f"a{number}", 3)
    folded = await asyncio.gather(*(catalogue.fold_usage(50) for _ in range(5)))
    assert sum(folded) == 20
    assert await usage_of(catalogue) == Usage(bytes=60, nodes=20)


async def test_reconciliation_corrects_the_usage(catalogue: SqlCatalogue) -> None:
    """As after a commit and a deletion by an older release, which count nothing."""
    await commit(catalogue, "a", 5)
    await catalogue.delete_node(TENANT, (await commit(catalogue, "b", 4)).node_id)
    await catalogue.fold_usage(100)
    async with catalogue._db.write() as connection:
        await connection.execute(update(usage_totals).values(bytes=99, nodes=7))
    (drive_id,) = await catalogue.drives_unreconciled(await catalogue.now(), 10)
    difference = await catalogue.reconcile_usage(drive_id)
    assert difference is not None
    assert (difference.tenant, difference.drive) == (TENANT, DRIVE)
    assert (difference.bytes, difference.nodes) == (5 - 99, 1 - 7)
    assert await usage_of(catalogue) == Usage(bytes=5, nodes=1)
    assert await catalogue.reconcile_usage(drive_id) is None
    assert await catalogue.drives_unreconciled(await catalogue.now() - 60, 10) == []


async def test_uncounted_drive_is_reconciled(catalogue: SqlCatalogue) -> None:
    await commit(catalogue, "a", 5)
    async with catalogue._db.write() as connection:
        await connection.execute(delete(usage_changes))
    assert await usage_of(catalogue) == Usage()
    (drive_id,) = await catalogue.drives_unreconciled(0.0, 10)
    assert await catalogue.reconcile_usage(drive_id) is not None
    assert await usage_of(catalogue) == Usage(bytes=5, nodes=1)


async def test_unchecked_reservations_are_listed(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=100))
    for name in ("a", "b"):
        await catalogue.reserve(TENANT, DRIVE, name, 5)
    now = await catalogue.now()
    assert await catalogue.reservations_unchecked(now - 60, 10) == []
    found = await catalogue.reservations_unchecked(now + 60, 10)
    assert {(one.tenant, one.upload_id, one.size) for one in found} == {
        (TENANT, "a", 5),
        (TENANT, "b", 5),
    }
    assert len(await catalogue.reservations_unchecked(now + 60, 10, 1)) == 1
    await catalogue.reservation_checked(TENANT, found[0].upload_id)
    again = await catalogue.reservations_unchecked(now + 60, 1)
    assert again[0].upload_id == found[1].upload_id


async def test_200_reservations_for_50_take_exactly_50(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=50 * 7 + 6))

    async def upload(number: int) -> bool:
        one = finished_upload(f"n{number}", content=b"1234567")
        try:
            await catalogue.reserve(TENANT, DRIVE, one.upload_id, one.size)
        except ResourceExhausted:
            return False
        await catalogue.record_intent(intent_of(one))
        await catalogue.commit_node(one)
        return True

    stored = await asyncio.gather(*(upload(number) for number in range(200)))
    assert sum(stored) == 50
    assert await usage_of(catalogue) == Usage(bytes=350, nodes=50)
    page = await catalogue.list_nodes(TENANT, DRIVE, "", 1_000, "")
    assert len(page.nodes) == 50


async def test_200_unreserved_commits_for_50_make_50_nodes(catalogue: SqlCatalogue) -> None:
    """The commit decides even where no intake has reserved anything."""
    await catalogue.set_quota(TENANT, "", Quota(max_bytes=50 * 7 + 6))

    async def upload(number: int) -> bool:
        one = replace(finished_upload(f"n{number}", content=b"1234567"), size=7)
        await catalogue.record_intent(intent_of(one))
        try:
            await catalogue.commit_node(one)
        except ResourceExhausted:
            return False
        return True

    stored = await asyncio.gather(*(upload(number) for number in range(200)))
    assert sum(stored) == 50
    assert await usage_of(catalogue) == Usage(bytes=350, nodes=50)


async def test_usage_of_other_drives_is_not_counted(catalogue: SqlCatalogue) -> None:
    async with catalogue._db.write() as connection:
        await connection.execute(
            insert(usage_changes),
            {"tenant": TENANT, "drive_id": 10_000, "bytes": 5, "nodes": 1},
        )
    assert await usage_of(catalogue) == Usage()
    assert await usage_of(catalogue, "") == Usage(bytes=5, nodes=1)


async def test_migration_counts_the_existing_nodes(catalogue: SqlCatalogue, url: str) -> None:
    """And again, as after a migration that died, which changes nothing."""
    await catalogue.create_drive(TENANT, OTHER, BUCKET, "", DrivePolicy())
    for path, size in (("a", 5), ("a", 7), ("b", 2)):
        await commit(catalogue, path, size)
    deleted = await commit(catalogue, "c", 11)
    await catalogue.delete_node(TENANT, deleted.node_id)
    async with catalogue._db.write() as connection:
        for table in ("quota_reservations", "usage_changes", "usage_totals", "quotas"):
            await connection.execute(text(f"DROP TABLE {table}"))
    for _ in range(2):
        async with catalogue._db.write() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '0007'"))
        assert (await migrate(url)).applied == ("0008", "0009")
        assert await usage_of(catalogue) == Usage(bytes=9, nodes=2)
        assert await usage_of(catalogue, OTHER) == Usage()
    for drive_id in await catalogue.drives_unreconciled(0.0, 10):
        assert await catalogue.reconcile_usage(drive_id) is None
