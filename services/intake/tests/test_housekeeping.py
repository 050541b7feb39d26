"""Housekeeping of an in-memory ledger: expiry, cleanup and purging."""

from __future__ import annotations

import asyncio

import pytest

from sluice_backends.discard.chunks import DiscardChunkStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_common.telemetry.metrics import LedgerMetrics
from sluice_core.errors import NotFound
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import UploadStatus
from sluice_intake.housekeeping import Housekeeping, background_housekeeping
from support.ledgers import Driver, FakeClock
from support.waiting import until

OPTIONS = LedgerOptions(
    idle_lifetime_seconds=100,
    expiry_grace_seconds=10,
    cleanup_again_seconds=20,
    forget_after_seconds=50,
    discard_on_accept=True,
)


class Scene:
    """The ledger of phase 1, its clock and its housekeeping."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = MemoryLedger(OPTIONS, self.clock)
        self.driver = Driver(self.ledger, self.clock)
        self.metrics = LedgerMetrics()
        self.house = Housekeeping(self.ledger, DiscardChunkStore(), self.metrics)

    async def completed(self) -> str:
        upload_id = await self.driver.create()
        await self.driver.send(upload_id, 0, b"hello", is_last=True)
        await self.driver.complete(upload_id)
        assert await self.driver.status(upload_id) is UploadStatus.COMPLETED
        return upload_id

    async def pass_after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.house.sweep()

    def swept(self, kind: str) -> float:
        value = self.metrics.registry.get_sample_value("sluice_sweeps_total", {"kind": kind})
        return value or 0.0


async def test_ended_upload_is_purged_after_its_retention() -> None:
    scene = Scene()
    upload_id = await scene.completed()
    await scene.pass_after(0)
    await scene.pass_after(20)
    assert await scene.driver.status(upload_id) is UploadStatus.COMPLETED
    await scene.pass_after(31)
    with pytest.raises(NotFound):
        await scene.ledger.get(upload_id)
    assert scene.swept("purged") == 1


async def test_idle_upload_expires_and_is_purged() -> None:
    scene = Scene()
    upload_id = await scene.driver.create()
    await scene.pass_after(101)
    await scene.pass_after(11)
    assert await scene.driver.status(upload_id) is UploadStatus.EXPIRED
    await scene.pass_after(21)
    await scene.pass_after(30)
    with pytest.raises(NotFound):
        await scene.ledger.get(upload_id)


async def test_active_upload_is_kept() -> None:
    scene = Scene()
    upload_id = await scene.driver.create()
    for number in range(5):
        await scene.driver.send(upload_id, number, b"now and then")
        await scene.pass_after(60)
    assert await scene.driver.status(upload_id) is UploadStatus.UPLOADING


async def test_one_pass_sweeps_more_than_a_page() -> None:
    scene = Scene()
    for _ in range(1100):
        await scene.completed()
    await scene.pass_after(0)
    await scene.pass_after(20)
    await scene.pass_after(31)
    assert scene.swept("purged") == 1100
    assert (await scene.ledger.backlog()).open_uploads == 0


async def test_failed_pass_does_not_end_housekeeping() -> None:
    scene = Scene()
    passes = 0

    class Broken(DiscardChunkStore):
        async def drop_upload(self, upload_id: str) -> None:
            nonlocal passes
            passes += 1
            if passes == 1:
                raise OSError("only once")

    await scene.completed()
    async with background_housekeeping(scene.ledger, Broken(), scene.metrics, 0.01):

        async def cleaned() -> bool:
            return scene.swept("cleaned") == 1

        await until(cleaned, 5, "a pass after the one that failed")
    assert passes == 2
    assert scene.swept("failed") == 1
    assert len(asyncio.all_tasks()) == 1
