"""Reused upload ids: state of the first upload is void for the second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice_core.errors import Aborted
from sluice_core.uploads.model import ObjectRef
from support.ledgers import DAY, Driver


async def reuse_upload_id(driver: Driver, upload_id: str) -> str:
    """Purge the upload and open a new one under its id, as for a request id reused after a day.

    Return the new node id.
    """
    first = (await driver.ledger.get(upload_id)).new
    await driver.ledger.abort(upload_id)
    await driver.ledger.events_published(upload_id, 10)
    await driver.ledger.cleanup_done(upload_id)
    driver.clock.advance(DAY)
    await driver.ledger.cleanup_done(upload_id)
    assert await driver.ledger.purge_due(10) == 1
    node_id = f"{first.node_id}-again"
    key = ObjectRef(first.object.bucket, f"{first.object.key}-again")
    await driver.ledger.create(replace(first, node_id=node_id, object=key))
    return node_id


@pytest.mark.rule(23)
async def test_events_of_a_reused_upload_id_have_new_ids(driver: Driver) -> None:
    upload_id = await driver.create()
    (before,) = await driver.ledger.upload_events(upload_id)
    node_id = await reuse_upload_id(driver, upload_id)
    (after,) = await driver.ledger.upload_events(upload_id)
    assert (before.type, before.sequence) == (after.type, after.sequence)
    assert after.node_id == node_id
    assert after.event_id != before.event_id


@pytest.mark.rule(15)
async def test_a_fence_is_void_when_its_upload_id_is_reused(driver: Driver) -> None:
    """A worker that paused for a day must not write to the new upload."""
    upload_id = await driver.create(expected_size=16, chunk_size=16)
    await driver.send(upload_id, 0, b"x" * 16)
    stale = await driver.claim(upload_id, 1)
    record = await driver.record_of(stale)
    await reuse_upload_id(driver, upload_id)
    await driver.send(upload_id, 0, b"y" * 16)
    claim = await driver.claim(upload_id, 1)
    for call in (
        driver.ledger.extend_claim(stale, 60),
        driver.ledger.record_part(stale, record),
        driver.ledger.fail(upload_id, "BUCKET_NOT_FOUND", "gone", stale.fence),
    ):
        with pytest.raises(Aborted, match="FENCED"):
            await call
    await driver.ledger.extend_claim(claim, 60)
