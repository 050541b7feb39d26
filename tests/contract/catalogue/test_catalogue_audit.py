"""Catalogue contract for the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from sluice_backends.sql.database import open_database
from sluice_core.access.audit import OK, AuditEntry
from sluice_core.access.grants import Access, Grantee, GranteeKind, Role
from sluice_core.errors import NotFound, SluiceError
from sluice_core.ports.audit import AuditCursor, AuditFilter
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from sluice_core.ports.quotas import Quota
from sluice_core.uploads.model import MIB, Integrity
from support.commits import BUCKET, DRIVE, TENANT, finished_upload

ANN = Grantee(GranteeKind.SUBJECT, "ann")
ENTRY = AuditEntry(TENANT, "boss", "Any", "drive/photos", request_id="r-1", peer="10.0.0.1")
EVERYTHING = AuditFilter()


async def log_of(
    catalogue: Catalogue, tenant: str = TENANT, wanted: AuditFilter = EVERYTHING
) -> Sequence[AuditEntry]:
    return (await catalogue.list_audit(tenant, 100, None, wanted)).entries


async def actions(catalogue: Catalogue) -> list[str]:
    """Return the recorded actions, oldest first, and forget no entry."""
    return [entry.action for entry in reversed(await log_of(catalogue))]


async def test_an_entry_is_listed_as_it_was_appended(catalogue: Catalogue) -> None:
    full = AuditEntry(
        TENANT,
        "änn ",
        "GrantDrive",
        "drive/photos owner subject:日本 ",
        "NOT_GRANTED",
        "r:1",
        "fe80::1",
        7,
        1_700_000_000.123456,
    )
    await catalogue.append_audit([full])
    assert list(await log_of(catalogue)) == [full]


async def test_an_entry_without_a_time_gets_that_of_the_write(catalogue: Catalogue) -> None:
    before = await catalogue.now()
    await catalogue.append_audit([ENTRY])
    (found,) = await log_of(catalogue)
    assert found.occurred_at is not None
    assert before - 5 <= found.occurred_at <= await catalogue.now() + 5
    assert replace(found, occurred_at=None) == ENTRY


async def test_no_entries_are_appended_without_a_write(catalogue: Catalogue) -> None:
    await catalogue.append_audit([])
    assert not await log_of(catalogue)


async def test_each_change_leaves_one_entry(catalogue: Catalogue) -> None:
    """With the change; a repeat that changes nothing leaves none. Closing a drive grants a role."""
    node = finished_upload("a")
    await catalogue.commit_node(node)

    def named(action: str) -> AuditEntry:
        return replace(ENTRY, action=action)

    closed = DrivePolicy(access=Access.GRANTS)
    for _ in range(2):
        await catalogue.create_drive(TENANT, "d", BUCKET, "", DrivePolicy(), audit=named("create"))
    for _ in range(2):
        await catalogue.update_drive(TENANT, "d", closed, owner=ANN, audit=named("update"))
    for role in (Role.READER, Role.READER, Role.OWNER):
        await catalogue.put_grant(TENANT, DRIVE, ANN, role, audit=named(f"grant {role.name}"))
    for _ in range(2):
        await catalogue.remove_grant(TENANT, DRIVE, ANN, audit=named("revoke"))
    await catalogue.update_node(TENANT, node.node_id, {"a": "b"}, 0, audit=named("change"))
    for _ in range(2):
        await catalogue.delete_node(TENANT, node.node_id, audit=named("remove"))
    await catalogue.delete_node(TENANT, node.node_id, only_tombstone=True, audit=named("again"))
    await catalogue.delete_drive(TENANT, "d", audit=named("delete"))
    assert await actions(catalogue) == [
        "create",
        "update",
        "GrantDrive",
        "grant READER",
        "grant OWNER",
        "revoke",
        "change",
        "remove",
        "delete",
    ]


async def objects(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Return the recorded actions and objects, oldest first."""
    return [(entry.action, entry.object) for entry in reversed(await log_of(catalogue))]


async def test_changed_policy_values_are_recorded(catalogue: Catalogue) -> None:
    """Whether a drive was closed or opened; not the fields that keep their value."""
    policies = [
        DrivePolicy(access=Access.GRANTS, part_bytes=8 * MIB),
        DrivePolicy(access=Access.GRANTS, integrity=Integrity.CRC),
        DrivePolicy(read_only=True, storage_class="STANDARD_IA", encryption="aws:kms:key"),
        DrivePolicy(),
    ]
    for policy in policies:
        await catalogue.update_drive(TENANT, DRIVE, policy, audit=ENTRY)
    only = frozenset({"read_only"})
    await catalogue.update_drive(
        TENANT, DRIVE, DrivePolicy(access=Access.GRANTS, read_only=True), only, audit=ENTRY
    )
    assert [named for _, named in await objects(catalogue)] == [
        f"drive/{DRIVE} access=grants part_bytes=8388608",
        f"drive/{DRIVE} integrity=crc part_bytes=0",
        f"drive/{DRIVE} access=tenant encryption=aws:kms:key integrity=sha256_async"
        " read_only=true storage_class=STANDARD_IA",
        f"drive/{DRIVE} encryption= read_only=false storage_class=",
        f"drive/{DRIVE} read_only=true",
    ]


async def test_policy_of_a_new_drive_is_recorded(catalogue: Catalogue) -> None:
    """As far as it is not the default."""
    for number, policy in enumerate([DrivePolicy(), DrivePolicy(access=Access.GRANTS)]):
        await catalogue.create_drive(TENANT, f"d{number}", BUCKET, "", policy, audit=ENTRY)
    assert [named for _, named in await objects(catalogue)] == [
        "drive/d0",
        "drive/d1 access=grants",
    ]


async def test_an_implied_owner_has_an_entry(catalogue: Catalogue) -> None:
    """Of the same caller and request, once, and none for a role that was there."""
    closed, opened = DrivePolicy(access=Access.GRANTS), DrivePolicy()
    for _ in range(2):
        await catalogue.create_drive(TENANT, "d", BUCKET, "", closed, owner=ANN, audit=ENTRY)
    granted = ("GrantDrive", "drive/d owner subject:ann")
    assert await objects(catalogue) == [("Any", "drive/d access=grants"), granted]
    await catalogue.remove_grant(TENANT, "d", ANN)
    for policy in (opened, closed, opened, closed):
        await catalogue.update_drive(TENANT, "d", policy, owner=ANN, audit=ENTRY)
    assert (await objects(catalogue))[2:] == [
        ("Any", "drive/d access=tenant"),
        ("Any", "drive/d access=grants"),
        granted,
        ("Any", "drive/d access=tenant"),
        ("Any", "drive/d access=grants"),
    ]
    entries = await log_of(catalogue)
    assert {(one.subject, one.request_id, one.peer, one.outcome) for one in entries} == {
        (ENTRY.subject, ENTRY.request_id, ENTRY.peer, OK)
    }


async def test_a_failed_owner_grant_leaves_nothing(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the change nor its entry: all are one transaction."""

    async def fail(*_: object) -> None:
        raise NotFound("NO_LOG", "The log is gone; restore it.")

    monkeypatch.setattr("sluice_backends.sql.grants.append_entries", fail)
    closed = DrivePolicy(access=Access.GRANTS)
    with pytest.raises(NotFound, match="NO_LOG"):
        await catalogue.create_drive(TENANT, "d", BUCKET, "", closed, owner=ANN, audit=ENTRY)
    with pytest.raises(NotFound, match="NO_LOG"):
        await catalogue.update_drive(TENANT, DRIVE, closed, owner=ANN, audit=ENTRY)
    assert not await log_of(catalogue)
    assert [drive.name for drive in (await catalogue.list_drives(TENANT, 10, "")).drives] == [DRIVE]
    assert (await catalogue.get_drive(TENANT, DRIVE)).access is Access.TENANT


async def test_a_change_without_an_entry_leaves_none(catalogue: Catalogue) -> None:
    """Those of Sluice itself."""
    node = finished_upload("a")
    await catalogue.commit_node(node)
    await catalogue.put_grant(TENANT, DRIVE, ANN, Role.OWNER)
    await catalogue.delete_node(TENANT, node.node_id)
    assert not await log_of(catalogue)


async def test_a_refused_change_leaves_no_entry(catalogue: Catalogue) -> None:
    """Its transaction is rolled back; who refused it records the refusal."""
    node = finished_upload("a")
    await catalogue.commit_node(node)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: catalogue.create_drive(TENANT, DRIVE, "other", "", DrivePolicy(), audit=ENTRY),
        lambda: catalogue.update_drive(TENANT, "none", DrivePolicy(), audit=ENTRY),
        lambda: catalogue.delete_drive(TENANT, DRIVE, audit=ENTRY),
        lambda: catalogue.put_grant(TENANT, "none", ANN, Role.OWNER, audit=ENTRY),
        lambda: catalogue.update_node(TENANT, node.node_id, {}, 9, audit=ENTRY),
        lambda: catalogue.delete_node("rival", node.node_id, audit=ENTRY),
        lambda: catalogue.delete_node(TENANT, node.node_id, only_tombstone=True, audit=ENTRY),
    ]
    for call in calls:
        with pytest.raises(SluiceError):
            await call()
    assert not await log_of(catalogue)


async def test_a_failed_append_leaves_no_change(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no change without its entry."""

    async def fail(*_: object) -> None:
        raise NotFound("NO_LOG", "The log is gone; restore it.")

    node = finished_upload("a")
    await catalogue.commit_node(node)
    for module in ("drives", "grants", "nodes", "commits"):
        monkeypatch.setattr(f"sluice_backends.sql.{module}.append_entries", fail)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: catalogue.create_drive(TENANT, "d", BUCKET, "", DrivePolicy(), audit=ENTRY),
        lambda: catalogue.update_drive(TENANT, DRIVE, DrivePolicy(read_only=True), audit=ENTRY),
        lambda: catalogue.put_grant(TENANT, DRIVE, ANN, Role.OWNER, audit=ENTRY),
        lambda: catalogue.update_node(TENANT, node.node_id, {"a": "b"}, 0, audit=ENTRY),
        lambda: catalogue.delete_node(TENANT, node.node_id, audit=ENTRY),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="NO_LOG"):
            await call()
    assert [drive.name for drive in (await catalogue.list_drives(TENANT, 10, "")).drives] == [DRIVE]
    assert not (await catalogue.get_drive(TENANT, DRIVE)).policy.read_only
    assert not await catalogue.grants_of(TENANT, DRIVE)
    assert (await catalogue.get_node(TENANT, node.node_id)).version == 1


async def test_concurrent_repeats_leave_one_entry(catalogue: Catalogue) -> None:
    node = finished_upload("a")
    await catalogue.commit_node(node)
    await asyncio.gather(
        *(catalogue.delete_node(TENANT, node.node_id, audit=ENTRY) for _ in range(5)),
        *(
            catalogue.create_drive(TENANT, "d", BUCKET, "", DrivePolicy(), audit=ENTRY)
            for _ in range(5)
        ),
    )
    assert len(await log_of(catalogue)) == 2


async def test_a_tenant_sees_its_own_entries_only(catalogue: Catalogue) -> None:
    others = ["rival", "", f"{TENANT} ", TENANT.upper()]
    await catalogue.append_audit([replace(ENTRY, tenant=tenant) for tenant in (TENANT, *others)])
    for tenant in (TENANT, *others):
        assert [entry.tenant for entry in await log_of(catalogue, tenant)] == [tenant]


async def test_the_log_is_listed_page_by_page(catalogue: Catalogue) -> None:
    """Newest first, by time and then by order of appending, each entry once."""
    times = [300.0, 100.0, 200.0, 200.0, 200.0, 400.5, 400.25]
    entries = [
        replace(ENTRY, occurred_at=at, request_id=str(number)) for number, at in enumerate(times)
    ]
    await catalogue.append_audit(entries)
    found: list[str] = []
    after: AuditCursor | None = None
    pages = 0
    while True:
        page = await catalogue.list_audit(TENANT, 2, after, EVERYTHING)
        found += [entry.request_id for entry in page.entries]
        pages, after = pages + 1, page.next_after
        if after is None:
            break
    assert (pages, found) == (4, ["5", "6", "0", "4", "3", "2", "1"])


async def test_the_log_is_filtered(catalogue: Catalogue) -> None:
    subjects = ("ann", "Ann", "ann", "ann ")
    for number, subject in enumerate(subjects):
        action = "DeleteNode" if number < 2 else "UpdateNode"
        one = replace(ENTRY, subject=subject, action=action, occurred_at=100.0 + number)
        await catalogue.append_audit([one])

    async def times(wanted: AuditFilter) -> list[float | None]:
        return [entry.occurred_at for entry in await log_of(catalogue, TENANT, wanted)]

    assert await times(AuditFilter(subject="ann")) == [102, 100]
    assert await times(AuditFilter(action="UpdateNode")) == [103, 102]
    assert await times(AuditFilter(subject="ann", action="UpdateNode")) == [102]
    assert await times(AuditFilter(since=101.0, until=103.0)) == [102, 101]
    assert await times(AuditFilter(since=104.0)) == []
    narrow = AuditFilter(since=100.0, until=103.0, subject="ann")
    first = await catalogue.list_audit(TENANT, 1, None, narrow)
    last = await catalogue.list_audit(TENANT, 1, first.next_after, narrow)
    assert [one.occurred_at for one in (*first.entries, *last.entries)] == [102, 100]
    assert last.next_after is None


@pytest.mark.parametrize(
    "wanted",
    [AuditFilter(action="SetQuota"), AuditFilter(subject="ann")],
    ids=["action", "subject"],
)
async def test_rare_entries_are_listed_by_index(
    catalogue: Catalogue, url: str, wanted: AuditFilter
) -> None:
    """The rest of the tenant's log is not read."""
    common = [replace(ENTRY, occurred_at=100.0 + number) for number in range(2_000)]
    rare = replace(ENTRY, action="SetQuota", subject="ann", occurred_at=50.0)
    await catalogue.append_audit([*common, rare])
    async with open_database(url) as database, database.write() as connection:
        table = "TABLE audit_log" if connection.dialect.name != "sqlite" else ""
        await connection.exec_driver_sql(f"ANALYZE {table}")
    used, sorts = [], []

    def explain(
        connection: Connection, _: object, statement: str, parameters: Any, *_rest: object
    ) -> None:
        if statement.startswith("SELECT") and "audit_log" in statement:
            how = "FORMAT=TRADITIONAL" if connection.dialect.name != "sqlite" else "QUERY PLAN"
            plan = connection.exec_driver_sql(f"EXPLAIN {how} {statement}", parameters)
            for row in plan.mappings():
                used.append(str(row["key"] if "key" in row else row["detail"]))
                sorts.append(str(row["Extra"] if "Extra" in row else row["detail"]))

    event.listen(Engine, "before_cursor_execute", explain)
    try:
        for after in (None, AuditCursor(2_000.0, 0)):
            page = await catalogue.list_audit(TENANT, 100, after, wanted)
            assert list(page.entries) == [rare]
    finally:
        event.remove(Engine, "before_cursor_execute", explain)
    index = f"ix_audit_log_tenant_{'action' if wanted.action else 'subject'}_occurred_at"
    assert [index in one for one in used] == [True, True]
    assert not any("filesort" in one or "TEMP B-TREE" in one for one in sorts)


async def test_old_entries_are_purged_in_pages(catalogue: Catalogue) -> None:
    """The oldest first, of all tenants."""
    for number in range(5):
        tenant = TENANT if number % 2 else "rival"
        await catalogue.append_audit([replace(ENTRY, tenant=tenant, occurred_at=100.0 + number)])
    assert await catalogue.purge_audit(104.0, 3) == 3
    left = [*await log_of(catalogue), *await log_of(catalogue, "rival")]
    assert sorted(entry.occurred_at or 0 for entry in left) == [103, 104]
    assert await catalogue.purge_audit(104.0, 3) == 1
    assert await catalogue.purge_audit(104.0, 3) == 0
    assert [entry.occurred_at for entry in await log_of(catalogue, "rival")] == [104]


async def test_concurrent_purges_count_each_entry_once(catalogue: Catalogue) -> None:
    entries = [replace(ENTRY, occurred_at=100.0 + number) for number in range(40)]
    await catalogue.append_audit(entries)
    purged = await asyncio.gather(*(catalogue.purge_audit(200.0, 10) for _ in range(4)))
    assert sum(purged) == 40 - len(await log_of(catalogue))
    assert max(purged) == 10


async def test_overlong_texts_are_cut(catalogue: Catalogue) -> None:
    await catalogue.append_audit(
        [replace(ENTRY, subject="s" * 300, object="ö" * 600, outcome="O" * 70, peer="p" * 70)]
    )
    (found,) = await log_of(catalogue)
    lengths = [len(text) for text in (found.subject, found.object, found.outcome, found.peer)]
    assert lengths == [255, 512, 64, 64]


async def test_a_changed_quota_leaves_one_entry(catalogue: Catalogue) -> None:
    entry = replace(ENTRY, action="SetQuota", object="tenant max_bytes=5")
    for _ in range(2):
        await catalogue.set_quota(TENANT, "", Quota(max_bytes=5), audit=entry)
    assert [one.object for one in await log_of(catalogue)] == ["tenant max_bytes=5"]
    with pytest.raises(NotFound):
        await catalogue.set_quota(TENANT, "none", Quota(max_bytes=5), audit=entry)
    await catalogue.set_quota(TENANT, "", Quota(), audit=replace(entry, object="tenant"))
    assert [one.object for one in await log_of(catalogue)] == ["tenant", "tenant max_bytes=5"]
