"""Catalogue contract for live nodes."""

from __future__ import annotations

import asyncio
import unicodedata
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice.events.v1 import nodes_pb2
from sluice_core.errors import Aborted, NotFound
from sluice_core.ports.catalogue import Catalogue, DrivePolicy
from sluice_core.uploads.model import Integrity
from support.commits import BUCKET, DRIVE, TENANT, finished_upload

DIGEST = bytes(range(32))
DRIVE_NUMBERS = count()


async def listed(
    catalogue: Catalogue, drive: str, prefix: str = "", page_size: int = 1000
) -> list[str]:
    """Return the paths of all pages of a listing."""
    paths: list[str] = []
    after = ""
    while True:
        page = await catalogue.list_nodes(TENANT, drive, prefix, page_size, after)
        assert len(page.nodes) <= page_size
        paths += [node.path for node in page.nodes]
        if not page.next_after:
            return paths
        after = page.next_after


def as_path(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# Few letters, so that prefixes and neighbours are common; some beyond ASCII, whose order by
# bytes is not that of any collation.
letters = st.sampled_from("aAbz/.-_é\u0301ÿ€\U0001f600\x7e")
paths = st.text(letters, min_size=1, max_size=6).map(as_path)


@given(
    names=st.sets(paths, max_size=12),
    prefix=st.text(letters, max_size=2).map(as_path),
    page_size=st.integers(1, 5),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_listings_sort_paths_by_bytes_for_any_page_size(
    catalogue: Catalogue, names: set[str], prefix: str, page_size: int
) -> None:
    drive = f"listing-{next(DRIVE_NUMBERS)}"
    await catalogue.create_drive(TENANT, drive, BUCKET, "", DrivePolicy())
    for name in names:
        await catalogue.commit_node(finished_upload(name, drive=drive))
    wanted = sorted((n for n in names if n.startswith(prefix)), key=lambda name: name.encode())
    assert await listed(catalogue, drive, prefix, page_size) == wanted


async def test_a_listing_shows_no_tombstones(catalogue: Catalogue) -> None:
    gone = finished_upload("b")
    for commit in (finished_upload("a"), finished_upload("a"), gone, finished_upload("c")):
        await catalogue.commit_node(commit)
    await catalogue.delete_node(TENANT, gone.node_id)
    assert await listed(catalogue, DRIVE) == ["a", "c"]


@pytest.mark.rule(19)
async def test_longest_path_is_stored_completely(catalogue: Catalogue) -> None:
    path = "€" * 341 + "x"
    assert len(path.encode()) == 1024
    await catalogue.commit_node(finished_upload(path))
    assert (await catalogue.find_node(TENANT, DRIVE, path)).path == path


async def test_other_drives_and_tenants_are_not_listed(catalogue: Catalogue) -> None:
    await catalogue.create_drive("rival", DRIVE, BUCKET, "", DrivePolicy())
    await catalogue.commit_node(finished_upload("theirs", tenant="rival"))
    await catalogue.commit_node(finished_upload("ours"))
    assert await listed(catalogue, DRIVE) == ["ours"]
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        await catalogue.list_nodes(TENANT, "nowhere", "", 10, "")


async def test_folder_is_searched_in_the_drives_of_all_tenants(catalogue: Catalogue) -> None:
    """A few drives at a time; younger nodes, neighbours and tombstones are left out."""
    for tenant in ("a", "b", "c"):
        await catalogue.create_drive(tenant, DRIVE, BUCKET, "", DrivePolicy())
    kept = [finished_upload(f".tus/{number}", tenant=tenant) for number, tenant in enumerate("abb")]
    gone = finished_upload(".tus/gone", tenant="a")
    neighbours = [finished_upload(path, tenant="a") for path in (".tus", ".tus0", "x/.tus/y", "z")]
    for commit in (*kept, gone, *neighbours):
        await catalogue.commit_node(commit)
    await catalogue.delete_node("a", gone.node_id)

    async def found(before: float, drives: int, limit: int = 10) -> list[list[str]]:
        pages, last = [], 0
        while True:
            page = await catalogue.nodes_in_folder(".tus/", before, last, drives, limit)
            pages.append([f"{node.tenant} {node.path}" for node in page.nodes])
            last = page.last_drive
            if last == 0:
                return pages

    later = await catalogue.now() + 60
    wanted = ["a .tus/0", "b .tus/1", "b .tus/2"]
    assert await found(later, 100) == [wanted]
    pages = await found(later, 1)
    assert [each for page in pages for each in page] == wanted
    assert max(map(len, pages)) == 2, "those of one drive"
    assert await found(later, 100, limit=1) == [wanted[:1]]
    assert await found(later - 120, 100) == [[]]


async def test_another_tenants_node_is_unknown(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.get_node("rival", commit.node_id)
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        await catalogue.find_node("rival", DRIVE, "a")
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await catalogue.update_node("rival", commit.node_id, {}, 0)


async def test_metadata_is_replaced_and_the_version_grows(catalogue: Catalogue) -> None:
    commit = finished_upload("a", metadata={"old": "1"})
    await catalogue.commit_node(commit)
    node = await catalogue.update_node(TENANT, commit.node_id, {"new": "2"}, 1)
    assert (node.metadata, node.version) == ({"new": "2"}, 2)
    assert await catalogue.get_node(TENANT, commit.node_id) == node
    assert (await catalogue.update_node(TENANT, commit.node_id, {}, 0)).version == 3


async def test_of_two_updates_of_one_version_one_wins(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    results = await asyncio.gather(
        *(catalogue.update_node(TENANT, commit.node_id, {"n": str(n)}, 1) for n in range(2)),
        return_exceptions=True,
    )
    (error,) = [result for result in results if isinstance(result, BaseException)]
    assert isinstance(error, Aborted)
    assert (error.reason, error.metadata["version"]) == ("VERSION_CONFLICT", "2")


@pytest.mark.rule(20)
async def test_only_sha256_async_nodes_are_listed_without_sha256(catalogue: Catalogue) -> None:
    owing = [finished_upload(path) for path in ("z", "a")]
    for commit in (
        *owing,
        finished_upload("known", sha256=DIGEST),
        finished_upload("crc", integrity=Integrity.CRC),
    ):
        await catalogue.commit_node(commit)
    found = await catalogue.nodes_without_sha256(10)
    assert [node.node_id for node in found] == [commit.node_id for commit in owing]
    assert len(await catalogue.nodes_without_sha256(1)) == 1


@pytest.mark.rule(20)
async def test_sha256_is_set_once_with_node_verified(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    assert await catalogue.record_sha256(commit.node_id, DIGEST)
    assert not await catalogue.record_sha256(commit.node_id, bytes(32))
    node = await catalogue.get_node(TENANT, commit.node_id)
    assert (node.sha256, node.version) == (DIGEST, 2)
    assert not await catalogue.nodes_without_sha256(10)
    _, row = await catalogue.outbox(10)
    event = nodes_pb2.NodeVerified.FromString(row.event.payload)
    assert (event.node_id, event.sha256, event.crc32c) == (commit.node_id, DIGEST, commit.crc32c)


async def test_deleted_node_needs_and_gets_no_sha256(catalogue: Catalogue) -> None:
    commit = finished_upload("a")
    await catalogue.commit_node(commit)
    await catalogue.delete_node(TENANT, commit.node_id)
    assert not await catalogue.nodes_without_sha256(10)
    assert not await catalogue.record_sha256(commit.node_id, DIGEST)
    assert not await catalogue.record_sha256("unknown", DIGEST)
    assert len(await catalogue.outbox(10)) == 2
