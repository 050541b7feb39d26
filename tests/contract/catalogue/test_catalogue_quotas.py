"""Contract of quotas: limits, reservations, usage and its reconciliation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_core.errors import Aborted, NotFound, ResourceExhausted
from sluice_core.ports.catalogue import DrivePolicy, NodeCommit
from sluice_core.ports.quotas import Quota, Usage
from support.commits import BUCKET, DRIVE, TENANT, finished_upload, intent_of
from support.photo_jobs import ANN, new_job

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


@pytest.mark.parametrize("drive", ["", DRIVE], ids=["tenant", "drive"])
async def test_photos_of_open_jobs_hold_their_room(catalogue: SqlCatalogue, drive: str) -> None:
    """They may still be put into the store, where no quota stops them."""
    await catalogue.create_drive(TENANT, OTHER, BUCKET, "", DrivePolicy())
    await catalogue.set_quota(TENANT, drive, Quota(max_bytes=100))
    made = (await catalogue.create_job(new_job("a.jpg", "b.jpg", size=30))).job
    await catalogue.check_room(TENANT, DRIVE, 40, 1)
    error = await refusal_of(catalogue.check_room(TENANT, DRIVE, 41, 1))
    assert (error.metadata["reserved"], error.metadata["requested"]) == ("60", "41")
    if drive:
        await catalogue.check_room(TENANT, OTHER, 100, 1)
    # A repeated creation does not meet itself.
    await catalogue.check_room(TENANT, DRIVE, 100, 2, job_id=made.job_id)
    await catalogue.cancel_job(ANN, made.job_id)
    await catalogue.check_room(TENANT, DRIVE, 100, 2)


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


async def test_concurrent_first_quotas_all_succeed(catalogue: SqlCatalogue) -> None:
    for _ in range(5):
        quotas = [Quota(max_bytes=number) for number in range(1, 9)]
        await asyncio.gather(*(catalogue.set_quota(TENANT, DRIVE, one) for one in quotas))
        assert (await catalogue.get_quota(TENANT, DRIVE))[0] in quotas
        await catalogue.set_quota(TENANT, DRIVE, Quota())


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
    assert {one.drive for one in found} == {DRIVE}
    await catalogue.reservations_checked(found[:1], 3_600)
    (again,) = await catalogue.reservations_unchecked(now + 60, 10)
    assert again.upload_id == found[1].upload_id
    assert len(await catalogue.reservations_unchecked(now + 7_200, 10)) == 2


async def test_dropped_reservations_are_those_of_their_drive(catalogue: SqlCatalogue) -> None:
    await catalogue.create_drive(TENANT, OTHER, BUCKET, "", DrivePolicy())
    await catalogue.set_quota(TENANT, "", Quota(max_bytes=100))
    for drive, upload_id in ((DRIVE, "a"), (DRIVE, "b"), (OTHER, "a"), (OTHER, "c")):
        await catalogue.reserve(TENANT, drive, upload_id, 5)
    found = await catalogue.reservations_unchecked(await catalogue.now() + 60, 10)
    dropped = [one for one in found if (one.drive, one.upload_id) in ((DRIVE, "a"), (OTHER, "c"))]
    for _ in range(2):
        await catalogue.drop_reservations(dropped)
    left = await catalogue.reservations_unchecked(await catalogue.now() + 60, 10)
    assert {(one.drive, one.upload_id) for one in left} == {(DRIVE, "b"), (OTHER, "a")}


async def test_reservation_shrinks_and_never_grows_thereby(catalogue: SqlCatalogue) -> None:
    await catalogue.set_quota(TENANT, DRIVE, Quota(max_bytes=100))
    await catalogue.reserve(TENANT, DRIVE, "a", 50)
    (found,) = await catalogue.reservations_unchecked(await catalogue.now() + 60, 10)
    for size in (20, 30):
        await catalogue.shrink_reservation(found, size)
        assert await usage_of(catalogue) == Usage(reserved_bytes=20, open_uploads=1)


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
