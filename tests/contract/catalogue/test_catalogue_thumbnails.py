"""Catalogue contract for thumbnails: shown, replaced, deleted with their node."""

from __future__ import annotations

import pytest

from sluice_core.catalogue.processing import Recorded
from sluice_core.ports.catalogue import Catalogue
from support.commits import TENANT
from support.processing_results import (
    announced,
    committed,
    doomed_keys,
    failed,
    keys_of,
    processed,
    recorded,
    result,
)


async def test_an_announced_thumbnail_is_not_shown(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    await announced(catalogue, node_id)
    assert await result(catalogue, node_id) is None
    await recorded(catalogue, node_id, failed())
    found = await result(catalogue, node_id)
    assert found is not None
    assert (found.thumbnails, found.location, dict(found.exif)) == ((), None, {})


@pytest.mark.rule(26)
async def test_new_content_replaces_the_thumbnails(
    catalogue: Catalogue,
) -> None:
    node_id = (await committed(catalogue)).node_id
    await recorded(catalogue, node_id, processed(node_id, "e-1"))
    assert await recorded(catalogue, node_id, processed(node_id, "e-2")) is Recorded.RECORDED
    assert await doomed_keys(catalogue) == keys_of(processed(node_id, "e-1"))
    found = await result(catalogue, node_id)
    assert found is not None
    assert keys_of(found) == keys_of(processed(node_id, "e-2"))


@pytest.mark.rule(26)
async def test_a_thumbnail_that_a_live_node_names_again_stays(catalogue: Catalogue) -> None:
    node_id = (await committed(catalogue)).node_id
    for etag in ("e-1", "e-2", "e-1"):
        await recorded(catalogue, node_id, processed(node_id, etag))
    assert await doomed_keys(catalogue) == keys_of(processed(node_id, "e-2"))
    for one in processed(node_id, "e-1").thumbnails:
        assert await catalogue.is_object_live(one.object)
    for one in processed(node_id, "e-2").thumbnails:
        assert not await catalogue.is_object_live(one.object)


@pytest.mark.rule(26)
async def test_thumbnails_are_deleted_with_their_node(catalogue: Catalogue) -> None:
    commit = await committed(catalogue)
    await recorded(catalogue, commit.node_id, processed(commit.node_id))
    await catalogue.delete_node(TENANT, commit.node_id)
    thumbnails = keys_of(processed(commit.node_id))
    assert await doomed_keys(catalogue) == sorted([commit.object.key, *thumbnails])
    assert await result(catalogue, commit.node_id) is None


@pytest.mark.rule(14, 26)
async def test_announced_thumbnails_are_deleted_with_their_node(
    catalogue: Catalogue,
) -> None:
    """The processor may have crashed after writing them."""
    commit = await committed(catalogue)
    await announced(catalogue, commit.node_id)
    await announced(catalogue, commit.node_id)
    await committed(catalogue)
    thumbnails = keys_of(processed(commit.node_id))
    assert await doomed_keys(catalogue) == sorted([commit.object.key, *thumbnails])
