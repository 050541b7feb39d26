"""Withheld events that the publisher rejected (rule 22)."""

from __future__ import annotations

import pytest

from sluice_core.errors import NotFound
from support.ledgers import Driver


@pytest.mark.rule(22)
async def test_withheld_events_do_not_displace_others(driver: Driver) -> None:
    """A page has only events that are not withheld, however many are."""
    withheld = [await driver.create() for _ in range(60)]
    for upload_id in withheld:
        await driver.ledger.withhold_events(upload_id, 60)
    other = await driver.create()
    assert [event.upload_id for event in await driver.ledger.pending_events(10)] == [other]
    await driver.ledger.abort(withheld[0])
    of_first = await driver.ledger.upload_events(withheld[0])
    assert [event.type for event in of_first] == ["UploadInitiated", "UploadAborted"]
    assert [event.upload_id for event in await driver.ledger.pending_events(10)] == [other]

    driver.clock.advance(61)
    first, *retried = [event.upload_id for event in await driver.ledger.pending_events(1)]
    assert first == other
    assert 1 < len(set(retried)) < len(withheld)
    assert set(retried) <= set(withheld)


@pytest.mark.rule(22)
async def test_published_withheld_events_are_deleted(driver: Driver) -> None:
    upload_id = await driver.create()
    await driver.ledger.withhold_events(upload_id, 60)
    driver.clock.advance(61)
    (event,) = await driver.ledger.pending_events(10)
    await driver.ledger.events_published(upload_id, event.sequence)
    assert await driver.ledger.pending_events(10) == []
    await driver.ledger.abort(upload_id)
    (event,) = await driver.ledger.pending_events(10)
    assert event.type == "UploadAborted"
    with pytest.raises(NotFound):
        await driver.ledger.withhold_events("nonexistent-upload", 60)
