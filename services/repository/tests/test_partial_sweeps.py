"""Tests of the sweeper's removal of abandoned partial uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sluice_core.access.audit import AuditEntry
from sluice_core.errors import Unavailable
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.uploads.partial import CONCAT_KEY, PARTIAL
from sluice_repository.roles import partials
from sluice_repository.roles.sweeper import Sweeper
from support.commits import finished_upload
from support.roles import BUCKET, DRIVE, TENANT, World

OF_PARTIAL = {CONCAT_KEY: PARTIAL}


async def committed(world: World, path: str, drive: str = DRIVE, **metadata: str) -> str:
    """Commit a node, of a partial upload unless it has metadata; return its id."""
    commit = finished_upload(path, drive=drive, metadata=metadata or OF_PARTIAL)
    await world.catalogue.commit_node(commit)
    return commit.node_id


def sweeper_after(world: World, age_seconds: float) -> Sweeper:
    """Return a sweeper for which nodes are abandoned at this age; below 0 before they exist."""
    options = replace(world.deps.options, partial_age_seconds=age_seconds)
    return Sweeper(replace(world.deps, options=options))


async def paths_of(world: World, drive: str = DRIVE) -> Sequence[str]:
    page = await world.catalogue.list_nodes(TENANT, drive, "", 100, "")
    return [node.path for node in page.nodes]


def swept(world: World) -> float | None:
    registry = world.deps.metrics.registry
    return registry.get_sample_value("sluice_sweeps_total", {"kind": "partials"})


async def test_abandoned_partial_uploads_are_deleted(world: World) -> None:
    """Nothing else: not a folder of a client that has the same name, no other metadata."""
    await committed(world, ".tus/a")
    await committed(world, ".tus/kept", any="other")
    await committed(world, "kept")
    await sweeper_after(world, -60).sweep()
    assert await paths_of(world) == [".tus/kept", "kept"]
    assert swept(world) == 1
    await sweeper_after(world, -60).sweep()
    assert swept(world) == 1


async def test_partial_uploads_in_use_are_kept(world: World) -> None:
    """Their final upload is being put together."""
    await committed(world, ".tus/a")
    await world.sweeper.sweep()
    assert await paths_of(world) == [".tus/a"]


async def test_a_pass_searches_some_drives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one goes on with the others, and the one after the last begins again."""
    monkeypatch.setattr(partials, "DRIVES", 1)
    monkeypatch.setattr(partials, "QUERIES", 2)
    others = [f"other-{number}" for number in range(3)]
    for drive in others:
        await world.catalogue.create_drive(TENANT, drive, BUCKET, "", DrivePolicy())
    drives = [DRIVE, *others]
    for drive in drives:
        await committed(world, ".tus/a", drive)
    sweeper = sweeper_after(world, -60)
    left = []
    for _ in range(2):
        await sweeper.sweep()
        left.append(sum([len(await paths_of(world, drive)) for drive in drives]))
    assert left == [2, 0]
    await committed(world, ".tus/b")
    for _ in range(2):
        await sweeper.sweep()
    assert await paths_of(world) == []


async def test_node_that_cannot_be_deleted_keeps_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = await committed(world, ".tus/a")
    await committed(world, ".tus/b")
    delete = world.catalogue.delete_node

    async def failing(
        tenant: str,
        node_id: str,
        *,
        only_tombstone: bool = False,
        audit: AuditEntry | None = None,
    ) -> None:
        if node_id == stuck:
            raise Unavailable("CATALOGUE_UNAVAILABLE", "The test says so.")
        await delete(tenant, node_id, only_tombstone=only_tombstone, audit=audit)

    monkeypatch.setattr(world.catalogue, "delete_node", failing)
    await sweeper_after(world, -60).sweep()
    assert await paths_of(world) == [".tus/a"]
