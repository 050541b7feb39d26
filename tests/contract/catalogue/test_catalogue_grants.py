"""Catalogue contract for grants, closed drives and deleted drives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from sluice_core.access.grants import MAX_GRANTS, Access, Grant, Grantee, GranteeKind, Role
from sluice_core.errors import FailedPrecondition, NotFound, SluiceError
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from support.commits import BUCKET, DRIVE, TENANT, finished_upload, intent_of

ANN = Grantee(GranteeKind.SUBJECT, "ann")
STAFF = Grantee(GranteeKind.GROUP, "staff")
CLOSED = DrivePolicy(access=Access.GRANTS)


async def test_a_new_drive_is_open_and_has_no_grants(catalogue: Catalogue) -> None:
    assert (await catalogue.get_drive(TENANT, DRIVE)).access is Access.TENANT
    assert list(await catalogue.grants_of(TENANT, DRIVE)) == []


async def test_a_grant_replaces_the_former_role(catalogue: Catalogue) -> None:
    first = await catalogue.put_grant(TENANT, DRIVE, ANN, Role.READER)
    assert (first.grantee, first.role) == (ANN, Role.READER)
    second = await catalogue.put_grant(TENANT, DRIVE, ANN, Role.OWNER)
    assert second.role is Role.OWNER
    assert list(await catalogue.grants_of(TENANT, DRIVE)) == [second]


async def test_a_repeated_grant_changes_nothing(catalogue: Catalogue) -> None:
    first = await catalogue.put_grant(TENANT, DRIVE, ANN, Role.WRITER)
    assert await catalogue.put_grant(TENANT, DRIVE, ANN, Role.WRITER) == first
    assert list(await catalogue.grants_of(TENANT, DRIVE)) == [first]


async def test_a_revoked_role_is_gone_and_revoking_repeats(catalogue: Catalogue) -> None:
    await catalogue.put_grant(TENANT, DRIVE, ANN, Role.OWNER)
    kept = await catalogue.put_grant(TENANT, DRIVE, STAFF, Role.READER)
    for _ in range(2):
        await catalogue.remove_grant(TENANT, DRIVE, ANN)
        assert list(await catalogue.grants_of(TENANT, DRIVE)) == [kept]


async def test_grantees_are_told_apart_exactly(catalogue: Catalogue) -> None:
    """By kind, case, trailing spaces and characters beyond ASCII."""
    grantees = [Grantee(kind, name) for kind in GranteeKind for name in NAMES]
    for number, grantee in enumerate(grantees):
        await catalogue.put_grant(TENANT, DRIVE, grantee, Role(number % 3 + 1))
    found = {grant.grantee: grant.role for grant in await catalogue.grants_of(TENANT, DRIVE)}
    assert found == {grantee: Role(number % 3 + 1) for number, grantee in enumerate(grantees)}


NAMES = ["ann", "Ann", "ann ", " ann", "änn", "a\N{COMBINING DIAERESIS}nn", "日本", "x" * 255]


async def test_grants_are_listed_page_by_page(catalogue: Catalogue) -> None:
    subjects = [Grantee(GranteeKind.SUBJECT, name) for name in ("a", "b", "c")]
    groups = [Grantee(GranteeKind.GROUP, name) for name in ("a", "z")]
    for grantee in (*subjects, *groups):
        await catalogue.put_grant(TENANT, DRIVE, grantee, Role.READER)
    found: list[Grant] = []
    after: Grantee | None = None
    pages = 0
    while True:
        page = await catalogue.list_grants(TENANT, DRIVE, 2, after)
        found += page.grants
        pages += 1
        after = page.next_after
        if after is None:
            break
    assert pages == 3
    assert [grant.grantee for grant in found] == [*groups, *subjects]
    assert found == list(await catalogue.grants_of(TENANT, DRIVE))


async def test_grants_of_two_drives_are_separate(catalogue: Catalogue) -> None:
    await catalogue.create_drive(TENANT, "other", BUCKET, "", DrivePolicy())
    await catalogue.create_drive("rival", DRIVE, "elsewhere", "", DrivePolicy())
    await catalogue.put_grant(TENANT, DRIVE, ANN, Role.OWNER)
    assert not await catalogue.grants_of(TENANT, "other")
    assert not await catalogue.grants_of("rival", DRIVE)


async def test_grants_of_an_unknown_drive_are_not_found(catalogue: Catalogue) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: catalogue.put_grant("rival", DRIVE, ANN, Role.OWNER),
        lambda: catalogue.remove_grant("rival", DRIVE, ANN),
        lambda: catalogue.grants_of("rival", DRIVE),
        lambda: catalogue.list_grants("rival", DRIVE, 10, None),
        lambda: catalogue.delete_drive("rival", DRIVE),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
            await call()


async def test_a_drive_has_a_bounded_number_of_grants(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even of concurrent calls. A known grantee's role can still change."""
    assert MAX_GRANTS == 1000
    monkeypatch.setattr("sluice_backends.sql.grants.MAX_GRANTS", 3)

    subjects = [Grantee(GranteeKind.SUBJECT, f"s{number}") for number in range(6)]
    outcomes = await asyncio.gather(
        *(catalogue.put_grant(TENANT, DRIVE, one, Role.READER) for one in subjects),
        return_exceptions=True,
    )
    refused = [one for one in outcomes if isinstance(one, FailedPrecondition)]
    assert [one.reason for one in refused] == ["TOO_MANY_GRANTS"] * 3
    assert sum(isinstance(one, Grant) for one in outcomes) == 3
    known = (await catalogue.grants_of(TENANT, DRIVE))[0].grantee
    assert (await catalogue.put_grant(TENANT, DRIVE, known, Role.OWNER)).role is Role.OWNER


async def test_only_the_creation_makes_an_owner(catalogue: Catalogue) -> None:
    for owner in (ANN, STAFF):  # a repeated call of somebody else
        await catalogue.create_drive(TENANT, "closed", BUCKET, "", CLOSED, owner=owner)
        grants = await catalogue.grants_of(TENANT, "closed")
        assert [(grant.grantee, grant.role) for grant in grants] == [(ANN, Role.OWNER)]


async def test_only_closing_a_drive_makes_an_owner(catalogue: Catalogue) -> None:
    access = frozenset({"access"})
    await catalogue.update_drive(TENANT, DRIVE, DrivePolicy(), access, owner=STAFF)
    assert not await catalogue.grants_of(TENANT, DRIVE)
    for owner in (ANN, STAFF):
        changed = await catalogue.update_drive(TENANT, DRIVE, CLOSED, access, owner=owner)
        assert changed.access is Access.GRANTS
        grants = await catalogue.grants_of(TENANT, DRIVE)
        assert [(grant.grantee, grant.role) for grant in grants] == [(ANN, Role.OWNER)]


async def test_a_listing_shows_open_and_granted_drives(catalogue: Catalogue) -> None:
    for name in ("a", "b", "c", "d"):
        await catalogue.create_drive("lister", name, BUCKET, "", CLOSED)
    await catalogue.create_drive("lister", "e", BUCKET, "", DrivePolicy())
    await catalogue.put_grant("lister", "a", ANN, Role.READER)
    await catalogue.put_grant("lister", "b", STAFF, Role.OWNER)
    await catalogue.put_grant("lister", "c", Grantee(GranteeKind.GROUP, "ann"), Role.OWNER)
    shown = {
        (): ["e"],
        (ANN,): ["a", "e"],
        (STAFF,): ["b", "e"],
        (ANN, STAFF): ["a", "b", "e"],
    }
    for grantees, names in shown.items():
        page = await catalogue.list_drives("lister", 10, "", visible_to=grantees)
        assert [drive.name for drive in page.drives] == names
    first = await catalogue.list_drives("lister", 2, "", visible_to=(ANN, STAFF))
    assert [drive.name for drive in first.drives] == ["a", "b"]
    last = await catalogue.list_drives("lister", 2, first.next_after, visible_to=(ANN, STAFF))
    assert ([drive.name for drive in last.drives], last.next_after) == (["e"], "")


# ------------------------------------------------------------------ deletion


async def test_a_drive_with_a_node_is_not_deleted(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    with pytest.raises(FailedPrecondition, match="DRIVE_NOT_EMPTY"):
        await catalogue.delete_drive(TENANT, DRIVE)
    await catalogue.delete_node(TENANT, commit.node_id)
    await catalogue.delete_drive(TENANT, DRIVE)


async def test_a_deleted_drive_is_unknown(catalogue: Catalogue) -> None:
    await catalogue.delete_drive(TENANT, DRIVE)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: catalogue.get_drive(TENANT, DRIVE),
        lambda: catalogue.update_drive(TENANT, DRIVE, DrivePolicy()),
        lambda: catalogue.delete_drive(TENANT, DRIVE),
        lambda: catalogue.grants_of(TENANT, DRIVE),
        lambda: catalogue.list_nodes(TENANT, DRIVE, "", 10, ""),
        lambda: catalogue.find_node(TENANT, DRIVE, "a"),
        lambda: catalogue.commit_node(finished_upload("a")),
    ]
    for call in calls:
        with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
            await call()
    assert not (await catalogue.list_drives(TENANT, 10, "")).drives
    assert not await catalogue.drives_named(DRIVE, [TENANT])
    assert not await catalogue.drives_overlapping("rival", "d", [BUCKET], f"{TENANT}/{DRIVE}/")


async def test_a_new_drive_of_a_deleted_name_starts_afresh(catalogue: Catalogue) -> None:
    await catalogue.put_grant(TENANT, DRIVE, ANN, Role.OWNER)
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    await catalogue.delete_node(TENANT, commit.node_id)
    for _ in range(2):  # the names of two deleted drives do not collide
        await catalogue.delete_drive(TENANT, DRIVE)
        await catalogue.create_drive(TENANT, DRIVE, "second", "", CLOSED)
        assert not await catalogue.grants_of(TENANT, DRIVE)
    again = finished_upload("a")
    assert (await catalogue.commit_node(again)).created
    assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == again.node_id
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.get_node(TENANT, commit.node_id)


@pytest.mark.rule(13, 26)
async def test_deletions_and_intents_outlive_their_drive(catalogue: Catalogue) -> None:
    """The sweeper still finds every object of the drive."""
    deleted, aborted = finished_upload("a"), finished_upload("b")
    await catalogue.commit_node(deleted)
    await catalogue.delete_node(TENANT, deleted.node_id)
    await catalogue.record_intent(intent_of(aborted))
    await catalogue.delete_drive(TENANT, DRIVE)
    due = await catalogue.deletions_due(await catalogue.now() + 10_000, 10)
    assert [deletion.object for deletion in due] == [deleted.object]
    stale = await catalogue.stale_intents(await catalogue.now() + 10_000, 10)
    assert [intent.object for intent in stale] == [aborted.object]


@pytest.mark.rule(19)
async def test_a_late_commit_adds_no_node_to_a_deleted_drive(catalogue: Catalogue) -> None:
    """The process has committed to the drive before, and knows its row."""
    known = finished_upload("known")
    await catalogue.record_intent(intent_of(known))
    await catalogue.commit_node(known)
    await catalogue.delete_node(TENANT, known.node_id)
    await catalogue.delete_drive(TENANT, DRIVE)
    late = finished_upload("late")
    await catalogue.record_intent(intent_of(late))
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        await catalogue.commit_node(late)
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.get_node(TENANT, late.node_id)
    stale = await catalogue.stale_intents(await catalogue.now() + 10_000, 10)
    assert [intent.object for intent in stale] == [late.object]


@pytest.mark.rule(19)
async def test_commits_and_a_deletion_of_the_drive_exclude_each_other(
    catalogue: Catalogue,
) -> None:
    """Either the drive keeps its node, or it is gone and has none."""
    for number in range(10):
        name = f"d{number}"
        await catalogue.create_drive(TENANT, name, BUCKET, "", DrivePolicy())
        warm = replace(finished_upload("warm", drive=name))
        await catalogue.commit_node(warm)
        await catalogue.delete_node(TENANT, warm.node_id)
        commit = finished_upload("a", drive=name)
        await catalogue.record_intent(intent_of(commit))
        outcomes = await asyncio.gather(
            catalogue.commit_node(commit),
            catalogue.delete_drive(TENANT, name),
            return_exceptions=True,
        )
        failures = [one for one in outcomes if isinstance(one, SluiceError)]
        assert len(failures) == 1, outcomes
        if failures[0].reason == "DRIVE_NOT_EMPTY":
            assert (await catalogue.find_node(TENANT, name, "a")).node_id == commit.node_id
        else:
            assert failures[0].reason == "DRIVE_NOT_FOUND"
            with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
                await catalogue.get_node(TENANT, commit.node_id)


async def test_a_live_node_is_not_deleted_as_a_tombstone(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.delete_node(TENANT, commit.node_id, only_tombstone=True)
    assert (await catalogue.find_node(TENANT, DRIVE, "a")).node_id == commit.node_id
    await catalogue.delete_node(TENANT, commit.node_id)
    await catalogue.delete_node(TENANT, commit.node_id, only_tombstone=True)
