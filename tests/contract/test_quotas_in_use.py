"""Uploads under a quota: an intake in front of the roles, in one process and in two."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import grpc.aio
import pytest

from sluice_core.errors import SluiceError, Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.ports.quotas import Quota, Usage
from sluice_core.uploads.model import NewUpload, UploadSnapshot, UploadStatus
from sluice_intake.drives import CachedDrives, DriveDirectory, GrpcDrives
from sluice_intake.options import IntakeOptions
from sluice_repository.rpc.drives import DriveRegistry
from support.catalogue_files import catalogue_file
from support.intake import Intake, frames_of, refusal, running_intake
from support.repository import serving
from support.roles import DRIVE, TENANT, World, small_world

T = TypeVar("T")

STEP = 1_000
MINUTE = 60.0


class Calls:
    """A directory that counts its reservations."""

    def __init__(self, drives: DriveDirectory) -> None:
        self._drives = drives
        self.sizes: list[int] = []
        self.get, self.holds = drives.get, drives.holds
        self.release = drives.release

    async def reserve(self, tenant: str, name: str, upload_id: str, size: int) -> None:
        self.sizes.append(size)
        await self._drives.reserve(tenant, name, upload_id, size)


@dataclass(frozen=True, slots=True)
class Place:
    """The world of the roles, the intake in front of it, and what the intake asks for."""

    world: World
    intake: Intake
    calls: Calls

    async def usage(self) -> Usage:
        return (await self.world.catalogue.get_quota(TENANT, DRIVE))[1]

    async def limit(self, **limits: int) -> None:
        await self.world.catalogue.set_quota(TENANT, DRIVE, Quota(**limits))

    async def put(self, path: str, data: bytes, *, declared: bool = True) -> str:
        """Upload an object in one chunk, and return the id of the upload.

        As the SDK does, repeat a call that a busy repository did not answer in time.
        """
        fields = {"expected_size": len(data) if declared else None, "request_id": str(uuid4())}
        upload_id = (await _answered(lambda: self.intake.initiate(path, **fields))).upload_id
        await _answered(lambda: self.intake.send(upload_id, 0, data))
        await _answered(lambda: self.intake.complete(upload_id, total_chunks=1))
        return upload_id

    async def settle(self) -> None:
        await self.world.settle(30.0)

    async def nodes(self) -> list[int]:
        page = await self.world.catalogue.list_nodes(TENANT, DRIVE, "", 1_000, "")
        return [node.size for node in page.nodes]


@asynccontextmanager
async def place_of(
    folder: Path, kind: str, ledger_options: LedgerOptions | None = None
) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        world = await enter(small_world(folder, ledger_options=ledger_options))
        ledger, catalogue = world.deps.ledger, world.catalogue
        drives: DriveDirectory = DriveRegistry(catalogue, auto_create=False)
        if kind == "separate":
            repository = await enter(serving(catalogue, world.deps.objects, ledger=ledger))
            channel = await enter(grpc.aio.insecure_channel(repository.address))
            drives = CachedDrives(GrpcDrives(channel), fresh_seconds=0.0)
        calls = Calls(drives)
        options = IntakeOptions(quota_step_bytes=STEP, ledger=ledger_options or LedgerOptions())
        intake = await enter(
            running_intake(options, ledger=ledger, chunks=world.deps.chunks, drives=calls)
        )
        yield Place(world, intake.of(TENANT), calls)


@pytest.fixture(params=["standalone", "separate"])
async def at(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with place_of(tmp_path, request.param) as place:
        yield place


def assert_exceeded(error: SluiceError | None) -> None:
    """Such a refusal tells no client to try again."""
    assert error is not None
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert error.retry_after_seconds is None
    assert {"scope", "kind", "limit", "used", "reserved"} <= set(error.metadata)


async def test_nothing_is_reserved_without_a_quota(at: Place) -> None:
    await at.put("a", b"x" * 500)
    await at.put("b", b"x" * 500, declared=False)
    await at.settle()
    assert at.calls.sizes == []
    assert await at.usage() == Usage(bytes=1_000, nodes=2)


async def test_declared_size_is_reserved_and_used(at: Place) -> None:
    await at.limit(max_bytes=1_000)
    await at.put("a", b"x" * 700)
    assert await at.usage() == Usage(reserved_bytes=700, open_uploads=1)
    assert_exceeded(await refusal(at.intake.initiate("b", expected_size=301)))
    await at.put("b", b"x" * 300)
    await at.settle()
    assert await at.usage() == Usage(bytes=1_000, nodes=2)
    assert at.calls.sizes == [700, 301, 300]
    assert_exceeded(await refusal(at.intake.initiate("c", inline_data=b"x")))


async def test_refused_upload_leaves_nothing(at: Place) -> None:
    await at.limit(max_bytes=10)
    for _ in range(2):
        error = await refusal(at.intake.initiate("a", expected_size=11, request_id="r"))
        assert_exceeded(error)
    assert (await at.world.deps.ledger.backlog()).open_uploads == 0
    assert await at.usage() == Usage()
    await at.limit(max_bytes=11)
    await at.intake.initiate("a", expected_size=11, request_id="r")


async def test_repeated_initiate_reserves_once(at: Place) -> None:
    """Also when the upload has ended and left no room for another one."""
    await at.limit(max_bytes=10, max_nodes=1, max_open_uploads=1)
    first, again = [
        await at.intake.initiate("a", expected_size=10, request_id="r") for _ in range(2)
    ]
    assert first.upload_id == again.upload_id
    await at.intake.send(first.upload_id, 0, b"x" * 10)
    await at.intake.complete(first.upload_id, total_chunks=1)
    await at.settle()
    late = await at.intake.initiate("a", expected_size=10, request_id="r")
    assert late.upload_id == first.upload_id
    assert await at.usage() == Usage(bytes=10, nodes=1)


@pytest.mark.parametrize("sizes", [(10, 70), (70, 10), (None, 70), (70, None)])
@pytest.mark.parametrize("drive", [DRIVE, "second"])
async def test_conflicting_initiates_keep_the_room_of_one(
    at: Place, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int | None, int | None], drive: str
) -> None:
    """Two requests with one request id both reserve before either opens its upload."""
    catalogue = at.world.catalogue
    await catalogue.create_drive(TENANT, "second", "bucket", "second/", DrivePolicy())
    await catalogue.set_quota(TENANT, "", Quota(max_bytes=1_000))
    both = asyncio.Barrier(2)
    reserve = at.calls.reserve
    waiting = 2

    async def reserve_together(tenant: str, name: str, upload_id: str, size: int) -> None:
        nonlocal waiting
        await reserve(tenant, name, upload_id, size)
        waiting -= 1
        if waiting >= 0:
            await both.wait()

    monkeypatch.setattr(at.calls, "reserve", reserve_together)
    outcomes = await asyncio.gather(
        at.intake.initiate("a", expected_size=sizes[0], request_id="r"),
        at.intake.initiate("b", expected_size=sizes[1], request_id="r", drive=drive),
        return_exceptions=True,
    )
    (failed,) = [one for one in outcomes if isinstance(one, BaseException)]
    assert isinstance(failed, grpc.aio.AioRpcError)
    assert (await refusal(_raised(failed))).reason == "REQUEST_ID_CONFLICT"
    kept = sizes[1] if outcomes[0] is failed else sizes[0]
    usage = (await catalogue.get_quota(TENANT, ""))[1]
    assert usage == Usage(reserved_bytes=kept or 0, open_uploads=1)


@pytest.mark.parametrize("streamed", [True, False])
async def test_undeclared_size_is_reserved_in_steps(at: Place, streamed: bool) -> None:
    await at.limit(max_bytes=2_500)
    opened = await at.intake.initiate("a")
    upload_id = opened.upload_id
    assert await at.usage() == Usage(open_uploads=1)
    chunks = [b"x" * 400] * 6
    for number, data in enumerate(chunks):
        if streamed:
            answered = await at.intake.send_stream(frames_of(upload_id, number, data))
            assert answered.error is None
        else:
            await at.intake.send(upload_id, number, data)
    assert at.calls.sizes == [0, 400, 1_600, 3_000, 2_000, 3_400, 2_400]
    assert await at.usage() == Usage(reserved_bytes=2_400, open_uploads=1)
    if streamed:
        refused = (await at.intake.send_stream(frames_of(upload_id, 6, b"x" * 101))).error
    else:
        refused = await refusal(at.intake.send(upload_id, 6, b"x" * 101))
    assert_exceeded(refused)
    await at.intake.send(upload_id, 6, b"x" * 100)
    # What the server has already needs no room.
    assert (await at.intake.send(upload_id, 2, chunks[2])).duplicate
    await at.intake.complete(upload_id, total_chunks=7)
    await at.settle()
    assert await at.usage() == Usage(bytes=2_500, nodes=1)
    assert await at.nodes() == [2_500]


async def test_parallel_chunks_fill_the_quota_exactly(at: Place) -> None:
    """Chunks that are accepted and not yet closed are not counted twice at the limit."""
    await at.limit(max_bytes=3_000)
    upload_id = (await at.intake.initiate("a")).upload_id
    await asyncio.gather(*(at.intake.send(upload_id, n, b"x" * 100) for n in range(30)))
    assert_exceeded(await refusal(at.intake.send(upload_id, 30, b"x")))
    await at.intake.complete(upload_id, total_chunks=30)
    await at.settle()
    assert await at.usage() == Usage(bytes=3_000, nodes=1)


async def test_unaccepted_chunk_gives_its_room_back(at: Place) -> None:
    await at.limit(max_bytes=1_000)
    upload_id = (await at.intake.initiate("a")).upload_id
    broken = await refusal(at.intake.send(upload_id, 0, b"x" * 1_000, crc32c=1))
    assert broken.reason == "CHECKSUM_MISMATCH"
    await at.intake.send(upload_id, 0, b"x" * 1_000)


@pytest.mark.parametrize("end", ["abort", "expire", "fail"])
async def test_ended_upload_gives_its_room_back(at: Place, end: str) -> None:
    await at.limit(max_bytes=1_000)
    opened = await at.intake.initiate("a", expected_size=1_000)
    if end == "abort":
        await at.intake.abort(opened.upload_id)
    elif end == "fail":
        await at.world.deps.ledger.fail(opened.upload_id, "STORE_DENIED", "because")
    else:
        at.world.clock.advance(8 * 24 * 3600.0)
        await at.world.settle(180.0)
    await at.world.sweeper.sweep()
    assert await at.usage() == Usage()
    await at.intake.initiate("b", expected_size=1_000)


async def test_upload_that_was_never_opened_holds_no_room(
    at: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between reservation and creation: the sweeper finds no such upload."""

    async def lost(_new: NewUpload) -> UploadSnapshot:
        raise Unavailable("REDIS_UNAVAILABLE", "The ledger does not answer; try again.")

    await at.limit(max_bytes=1_000)
    with monkeypatch.context() as patch:
        patch.setattr(at.world.deps.ledger, "create", lost)
        assert (await refusal(at.intake.initiate("a", expected_size=1_000))).retryable
    for _ in range(2):
        assert await at.usage() == Usage(reserved_bytes=1_000, open_uploads=1)
        await at.world.sweeper.sweep()
    at.world.clock.advance(MINUTE + 1)
    await at.world.sweeper.sweep()
    assert await at.usage() == Usage()


async def test_open_upload_keeps_its_room(at: Place) -> None:
    await at.limit(max_bytes=1_000)
    opened = await at.intake.initiate("a", expected_size=1_000)
    for _ in range(3):
        at.world.clock.advance(MINUTE + 1)
        await at.world.sweeper.sweep()
    assert await at.usage() == Usage(reserved_bytes=1_000, open_uploads=1)
    await at.intake.send(opened.upload_id, 0, b"x" * 1_000)


async def test_sweeper_corrects_a_wrong_usage(tmp_path: Path) -> None:
    """Once an hour; a correction is counted."""
    async with small_world(tmp_path) as world:
        await world.upload([b"x" * 500])
        await world.settle(30.0)
        with sqlite3.connect(catalogue_file(tmp_path)) as database:
            database.execute("UPDATE usage_totals SET bytes = 7, nodes = 3")
        await world.sweeper.sweep()
        assert (await world.catalogue.get_quota(TENANT, DRIVE))[1] == Usage(bytes=7, nodes=3)
        world.clock.advance(3_601.0)
        for _ in range(2):
            await world.sweeper.sweep()
            assert (await world.catalogue.get_quota(TENANT, DRIVE))[1] == Usage(bytes=500, nodes=1)
            assert world.counted("sluice_usage_corrections_total") == 1


@pytest.mark.parametrize("kind", ["standalone", "separate"])
async def test_upload_refused_by_the_budget_holds_no_room(tmp_path: Path, kind: str) -> None:
    """A client repeats it without a request id: each time another upload would hold room."""
    options = LedgerOptions(budget_bytes=1_000, max_chunk_bytes=1_000, look_ahead_parts=1_000_000)
    async with place_of(tmp_path, kind, options) as at:
        await at.limit(max_bytes=2_000)
        upload_id = (await at.intake.initiate("a", expected_size=1_000)).upload_id
        await at.intake.send(upload_id, 0, b"x" * 1_000)
        before = await at.usage()
        error = await refusal(at.intake.initiate("b", expected_size=500))
        assert error.reason == "BUDGET_FULL"
        assert await at.usage() == before


async def test_upload_older_than_the_quota_fails_at_its_commit(at: Place) -> None:
    await at.put("a", b"x" * 600)
    await at.put("b", b"x" * 600)
    await at.limit(max_bytes=1_000)
    await at.settle()
    assert await at.usage() == Usage(bytes=600, nodes=1)
    snapshots = await at.world.deps.ledger.list_uploads(TENANT, frozenset(UploadStatus), 10, "")
    ends = {one.status: one.failure_reason for one in snapshots.uploads}
    assert ends == {UploadStatus.COMPLETED: "", UploadStatus.FAILED: "QUOTA_EXCEEDED"}
    (loser,) = [u for u in snapshots.uploads if u.status is UploadStatus.FAILED]
    error = await refusal(at.intake.complete(loser.upload_id, total_chunks=1))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert error.retry_after_seconds is None


@pytest.mark.slow
@pytest.mark.parametrize("declared", [True, False])
async def test_200_uploads_for_50_store_exactly_50(at: Place, declared: bool) -> None:
    await at.limit(max_bytes=50 * 70 + 69)

    async def upload(number: int) -> SluiceError | None:
        try:
            await at.put(f"n{number}", b"x" * 70, declared=declared)
        except grpc.aio.AioRpcError as error:
            return await refusal(_raised(error))
        return None

    errors = [e for e in await asyncio.gather(*map(upload, range(200))) if e is not None]
    await at.settle()
    for error in errors:
        assert_exceeded(error)
    stored = await at.nodes()
    usage = await at.usage()
    assert (usage.bytes, usage.nodes) == (sum(stored), len(stored))
    assert len(stored) == 50
    assert len(errors) == 150


async def _answered(call: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


async def _raised(error: grpc.aio.AioRpcError) -> None:
    raise error
