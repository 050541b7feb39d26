"""Fault 19: concurrent sweepers, one of which dies repeatedly."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_core.concurrency.waiting import wait_at_most
from support.separate_services import MIB, PART_BYTES, Stage, separate_services
from support.waiting import until
from support.wire import cut

STORED = random.Random(19).randbytes(PART_BYTES + MIB)
LIVE = random.Random(20).randbytes(60 * MIB)
ABANDONED = 8
KILLS = 3
SWEPT_SECONDS = 60.0
BRISK = {
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "0.2",
    "SLUICE_LIFETIMES__IDLE_SECONDS": "6",
    "SLUICE_LIFETIMES__EXPIRY_GRACE_SECONDS": "0.5",
    "SLUICE_LIFETIMES__CLEANUP_AGAIN_SECONDS": "1",
}


async def leftovers_of_others(stage: Stage, live: str) -> list[str]:
    """Return the leftovers of uploads in flight, except those of the live upload."""
    node_id = stage.oracle.observations.uploads[live].node_id
    found = await asyncio.to_thread(stage.services.leftovers)
    return [name for name in found if live not in name and node_id not in name]


async def abandon_uploads(stage: Stage) -> list[str]:
    """Abandon uploads with a stored part and with one chunk, and abort one; return their ids."""
    ids = [await stage.send(f"stored-{n}", STORED) for n in range(ABANDONED // 2)]
    ids += [await stage.send(f"begun-{n}", STORED[:MIB]) for n in range(ABANDONED // 2)]
    aborted = await stage.send("aborted", STORED)
    await stage.wire.intake.AbortUpload(pb.AbortUploadRequest(upload_id=aborted))
    return [*ids, aborted]


async def dying_sweepers(stage: Stage) -> None:
    rng = random.Random(19)
    for _ in range(KILLS):
        async with stage.repository("sweeper") as sweeper:
            await asyncio.sleep(rng.uniform(0.2, 1.0))  # a random moment of its work
            sweeper.kill()


@pytest.mark.row(19)
async def test_concurrent_sweepers_do_not_touch_live_uploads(tmp_path: Path) -> None:
    """Row 19: abandoned uploads are swept; the upload in progress is not touched."""
    async with (
        separate_services(tmp_path, BRISK) as stage,
        stage.repository("parts,completer,relay"),
        stage.repository("sweeper"),
        stage.repository("sweeper"),
    ):
        live = await stage.open("live")
        waiting = cut(LIVE, itertools.repeat(MIB))
        enough = asyncio.Event()

        async def go_on() -> None:
            """Send a chunk a second, well within the idle lifetime."""
            while not enough.is_set():
                chunk = waiting.pop(0)
                assert await stage.wire.send_stream(live, [chunk]) == [chunk.number]
                await wait_at_most(enough, 1)

        async def swept() -> bool:
            return not await leftovers_of_others(stage, live)

        async with asyncio.TaskGroup() as group:
            group.create_task(go_on())
            dying = group.create_task(dying_sweepers(stage))
            abandoned = await abandon_uploads(stage)
            await dying
            await until(swept, SWEPT_SECONDS, "the abandoned uploads are swept")
            enough.set()
        ends = [(await stage.wire.status(upload_id)).state for upload_id in abandoned]
        assert ends == [pb.UPLOAD_STATE_EXPIRED] * ABANDONED + [pb.UPLOAD_STATE_ABORTED]
        await stage.wire.send_stream(live, waiting)
        await stage.completed(live, len(LIVE), SWEPT_SECONDS)
        # One event per end, no leftovers, and the live object is what was sent.
        await stage.judge()
        assert stage.services.count_objects() == 1
