"""Contract of usage: changes, their totals, and the reconciliation with the nodes."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import delete, insert, text, update

from sluice_backends.sql import usage
from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_backends.sql.migrate import migrate
from sluice_backends.sql.schema import usage_changes, usage_totals
from sluice_core.errors import SluiceError
from sluice_core.ports.catalogue import DrivePolicy, NodeCommit
from sluice_core.ports.quotas import Quota, Usage
from support.commits import BUCKET, DRIVE, TENANT, finished_upload, intent_of

OTHER = "videos"


async def usage_of(catalogue: SqlCatalogue, drive: str = DRIVE) -> Usage:
    return (await catalogue.get_quota(TENANT, drive))[1]


async def commit(catalogue: SqlCatalogue, path: str, size: int, drive: str = DRIVE) -> NodeCommit:
    """Commit a node with its intent, as a completer does."""
    upload = finished_upload(path, content=b"x" * size, drive=drive)
    await catalogue.record_intent(intent_of(upload))
    await catalogue.commit_node(upload)
    return upload


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


async def test_concurrent_reconciliations_correct_once(catalogue: SqlCatalogue) -> None:
    await commit(catalogue, "a", 5)
    await catalogue.fold_usage(100)
    async with catalogue._db.write() as connection:
        await connection.execute(update(usage_totals).values(bytes=99, nodes=7))
    (drive_id,) = await catalogue.drives_unreconciled(await catalogue.now(), 10)
    found = await asyncio.gather(*(catalogue.reconcile_usage(drive_id) for _ in range(4)))
    assert sum(one is not None for one in found) == 1
    assert await usage_of(catalogue) == Usage(bytes=5, nodes=1)


async def test_failed_reconciliation_is_due_after_the_interval(
    catalogue: SqlCatalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the sum over a large drive exceeds the time limit: other drives have their turn."""
    await commit(catalogue, "a", 5)
    (drive_id,) = await catalogue.drives_unreconciled(await catalogue.now(), 10)
    with monkeypatch.context() as patch:
        patch.setattr(usage, "_COMPARE", text("SELECT no_such_column FROM nodes"))
        with pytest.raises(SluiceError):
            await catalogue.reconcile_usage(drive_id)
    assert await catalogue.drives_unreconciled(await catalogue.now() - 60, 10) == []


async def test_first_quota_makes_reconciliation_due(catalogue: SqlCatalogue) -> None:
    """An older release may have changed nodes since the last one."""
    await catalogue.create_drive(TENANT, OTHER, BUCKET, "", DrivePolicy())
    drives = await catalogue.drives_unreconciled(await catalogue.now(), 10)
    since = await catalogue.now() - 60
    for drive in (DRIVE, ""):
        for drive_id in drives:
            await catalogue.reconcile_usage(drive_id)
        await catalogue.set_quota(TENANT, drive, Quota(max_bytes=10))
        due = await catalogue.drives_unreconciled(since, 10)
        assert len(due) == (1 if drive else 2)
        for drive_id in due:
            await catalogue.reconcile_usage(drive_id)
        await catalogue.set_quota(TENANT, drive, Quota(max_bytes=11))
        assert await catalogue.drives_unreconciled(since, 10) == []


async def test_deleted_drive_leaves_no_usage_behind(catalogue: SqlCatalogue) -> None:
    """Not even usage that an older release deleted without counting it."""
    await catalogue.create_drive(TENANT, OTHER, BUCKET, "", DrivePolicy())
    upload = await commit(catalogue, "a", 5, OTHER)
    await catalogue.fold_usage(100)
    await commit(catalogue, "a", 7, OTHER)
    page = await catalogue.list_nodes(TENANT, OTHER, "", 10, "")
    assert [node.node_id for node in page.nodes] != [upload.node_id]
    await catalogue.delete_node(TENANT, page.nodes[0].node_id)
    async with catalogue._db.write() as connection:
        await connection.execute(delete(usage_changes).where(usage_changes.c.bytes < 0))
    assert (await usage_of(catalogue, "")).bytes > 0
    drives = await catalogue.drives_unreconciled(await catalogue.now(), 10)
    await catalogue.delete_drive(TENANT, OTHER)
    assert await usage_of(catalogue, "") == Usage()
    assert [await catalogue.reconcile_usage(drive_id) for drive_id in drives] == [None, None]


async def test_uncounted_drive_is_reconciled(catalogue: SqlCatalogue) -> None:
    await commit(catalogue, "a", 5)
    async with catalogue._db.write() as connection:
        await connection.execute(delete(usage_changes))
    assert await usage_of(catalogue) == Usage()
    (drive_id,) = await catalogue.drives_unreconciled(0.0, 10)
    assert await catalogue.reconcile_usage(drive_id) is not None
    assert await usage_of(catalogue) == Usage(bytes=5, nodes=1)


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
