"""Tests of recovery after a crash at each crash point."""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_common.process.crash_points import CrashPoint
from sluice_core.ports import WorkItem
from sluice_core.uploads.model import UploadStatus
from support.crashes import CrashSimulated, armed, crash_at
from support.roles import World, pieces, small_world

MULTIPART = pieces(3_300, 500)
SINGLE = pieces(700, 100)

WORKER_POINTS = [
    CrashPoint.AFTER_CLAIM_PART,
    CrashPoint.AFTER_OPEN_MULTIPART,
    CrashPoint.AFTER_SET_MULTIPART,
    CrashPoint.AFTER_UPLOAD_PART,
    CrashPoint.AFTER_RECORD_PART,
]
COMPLETER_POINTS = [
    CrashPoint.AFTER_CLAIM_COMPLETION,
    CrashPoint.AFTER_COMPLETE_MULTIPART,
    CrashPoint.AFTER_CATALOGUE_COMMIT,
    CrashPoint.AFTER_FINISH,
]
ONLY_MULTIPART = {CrashPoint.AFTER_OPEN_MULTIPART, CrashPoint.AFTER_SET_MULTIPART}


def cases() -> list[tuple[CrashPoint, list[bytes], bool]]:
    """Return every crash point that each kind of upload passes, with and without a catalogue."""
    return [
        (point, chunks, with_catalogue)
        for point, chunks, with_catalogue in itertools.product(
            WORKER_POINTS + COMPLETER_POINTS, (MULTIPART, SINGLE), (True, False)
        )
        if not (chunks is SINGLE and point in ONLY_MULTIPART)
        and not (point is CrashPoint.AFTER_CATALOGUE_COMMIT and not with_catalogue)
    ]


@pytest.mark.rule(17, 18)
@pytest.mark.parametrize(
    ("point", "chunks", "with_catalogue"),
    cases(),
    ids=lambda value: (
        {True: "catalogue", False: "ledger only"}.get(value)
        if isinstance(value, bool)
        else (value.value if isinstance(value, CrashPoint) else f"{len(value)} chunks")
    ),
)
async def test_next_process_completes_after_a_crash(
    tmp_path: Path, point: CrashPoint, chunks: list[bytes], with_catalogue: bool
) -> None:
    async with small_world(tmp_path, with_catalogue=with_catalogue) as world:
        upload = await world.upload(chunks)
        with crash_at(point):
            await world.work()
        world.boot()
        # Recovery takes at most 30 s: the dead process's lease, and a sweep.
        await world.settle(30)
        await world.assert_whole(upload)
        assert (await world.orphans()).none()


@pytest.mark.rule(25)
@pytest.mark.parametrize("point", WORKER_POINTS)
async def test_abort_after_worker_crash_leaves_nothing(tmp_path: Path, point: CrashPoint) -> None:
    async with small_world(tmp_path) as world:
        upload = await world.begin(MULTIPART)
        for number in range(4):
            await world.send(upload, number)
        with crash_at(point):
            await world.work()
        world.boot()
        await world.deps.ledger.abort(upload.id)
        await world.settle(20)
        assert (await world.orphans()).none()
        assert world.files() == []
        assert world.publisher.types(upload.new.node_id) == ["UploadInitiated", "UploadAborted"]


@pytest.mark.rule(23)
async def test_relay_crash_after_publish_repeats_the_same_event_id(
    tmp_path: Path,
) -> None:
    async with small_world(tmp_path) as world:
        upload = await world.begin(SINGLE)
        with crash_at(CrashPoint.AFTER_PUBLISH):
            await world.relay.relay_once()
        world.boot()
        world.clock.advance(20)
        await world.settle(10)
        ids = [e.event_id for e in world.publisher.events if e.key == upload.new.node_id]
        assert len(ids) == 2
        assert len(set(ids)) == 1


async def work_until_crash(world: World) -> None:
    try:
        await world.work()
    except CrashSimulated:
        world.boot()


@pytest.mark.rule(18, 19)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(crashes=st.lists(st.sampled_from(WORKER_POINTS + COMPLETER_POINTS), max_size=5))
@pytest.mark.slow
async def test_any_series_of_crashes_ends_in_one_whole_node(crashes: list[CrashPoint]) -> None:
    with TemporaryDirectory() as folder:
        async with small_world(Path(folder)) as world:
            upload = await world.upload(MULTIPART)
            for point in crashes:
                with armed(point):
                    await world.sweeper.sweep()
                    await work_until_crash(world)
                world.clock.advance(16)
            await world.settle(40)
            await world.assert_whole(upload)
            assert world.publisher.types(upload.new.node_id) == [
                "UploadInitiated",
                "UploadCompleted",
            ]
            assert (await world.orphans()).none()


@pytest.mark.rule(15)
async def test_new_process_reissues_hints_at_ready_work_at_once(tmp_path: Path) -> None:
    """After `kill -9` the in-process queue is empty."""
    async with small_world(tmp_path) as world:
        upload = await world.upload(MULTIPART)
        world.boot()
        assert (await world.deps.queue.depth()).items == 0
        ready: list[WorkItem] = list(await world.deps.ledger.ready_work(100))
        await world.sweeper.sweep()
        assert (await world.deps.queue.depth()).items == len(ready) > 0
        await world.work()
        assert await world.status(upload) is UploadStatus.COMPLETED
