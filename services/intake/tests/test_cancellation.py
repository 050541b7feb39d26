"""Cancelled calls: everything uncommitted is freed, everything committed stays."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import grpc.aio
import pytest
from structlog.testing import capture_logs

from sluice_backends.memory.chunks import MemoryChunkStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.errors import FailedPrecondition, SluiceError, Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import MIB
from sluice_intake.chunks.reception import IncomingChunk
from sluice_intake.chunks.streaming import _Stream
from sluice_intake.rpc.permits import Permit
from support.intake import Answered, Intake, block, frames_of, header, read_all, running_intake
from support.waiting import until


async def tokens_in_store(intake: Intake) -> set[str]:
    return {token for _, tokens in await intake.chunks.leftovers(-1.0, 10_000) for token in tokens}


async def nothing_is_left(intake: Intake, upload_id: str) -> bool:
    """Return whether there is no reservation, and no bytes except those of received chunks."""
    tokens = await tokens_in_store(intake)
    named = await intake.ledger.known_tokens(upload_id, sorted(tokens))
    return (await intake.ledger.backlog()).reserved_bytes == 0 and named == tokens


@pytest.mark.rule(5, 9)
async def test_cancel_inside_a_chunk_frees_its_room_and_bytes() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        call = intake.stream()
        await call.write(header(upload.upload_id, 0, 2 * MIB))
        await call.write(block(bytes(MIB)))

        async def bytes_have_arrived() -> bool:
            # Room is taken in steps, the first one with the header.
            reserved_bytes = (await intake.ledger.backlog()).reserved_bytes
            return bool(await tokens_in_store(intake)) and reserved_bytes == 2 * MIB

        await until(bytes_have_arrived)
        call.cancel()
        await until(lambda: nothing_is_left(intake, upload.upload_id))
        assert await tokens_in_store(intake) == set()
        assert (await intake.send(upload.upload_id, 0, b"again")).number == 0


class HeldLedger:
    """A real ledger whose accepts wait for `go_on`."""

    def __init__(self) -> None:
        self._ledger: Any = MemoryLedger(LedgerOptions())
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.failure: SluiceError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def accept_chunk(self, *args: Any) -> Any:
        self.reached.set()
        await self.go_on.wait()
        if self.failure is not None:
            raise self.failure
        return await self._ledger.accept_chunk(*args)


@pytest.mark.rule(1)
@pytest.mark.parametrize("way", ["stream", "unary"])
async def test_started_accept_finishes_despite_cancel(way: str) -> None:
    ledger: Any = HeldLedger()
    async with running_intake(ledger=ledger) as intake:
        upload = await intake.initiate()
        if way == "stream":
            call = intake.stream()
            for frame in frames_of(upload.upload_id, 0, b"committed"):
                await call.write(frame)
            await ledger.reached.wait()
            call.cancel()
        else:
            sending = asyncio.ensure_future(intake.send(upload.upload_id, 0, b"committed"))
            await ledger.reached.wait()
            sending.cancel()
        await asyncio.sleep(0.1)
        ledger.go_on.set()

        async def it_is_in() -> bool:
            return (await intake.status(upload.upload_id)).received_chunks == 1

        await until(it_is_in)
        assert len(await tokens_in_store(intake)) == 1


@pytest.mark.rule(1)
async def test_unknown_accept_outcome_keeps_the_bytes() -> None:
    ledger: Any = HeldLedger()
    ledger.go_on.set()
    ledger.failure = Unavailable("LEDGER_UNAVAILABLE", "The ledger does not answer.")
    async with running_intake(ledger=ledger) as intake:
        upload = await intake.initiate()
        answered = await intake.send_stream(frames_of(upload.upload_id, 0, b"perhaps"))
        assert answered.error is not None
        assert answered.error.code == "UNAVAILABLE"
        assert len(await tokens_in_store(intake)) == 1


@pytest.mark.rule(1)
async def test_refused_accept_drops_the_bytes() -> None:
    ledger: Any = HeldLedger()
    ledger.go_on.set()
    ledger.failure = FailedPrecondition("UPLOAD_ENDED", "The upload has ended.")
    async with running_intake(ledger=ledger) as intake:
        upload = await intake.initiate()
        answered = await intake.send_stream(frames_of(upload.upload_id, 0, b"never"))
        assert answered.error is not None
        assert answered.error.reason == "UPLOAD_ENDED"
        assert await nothing_is_left(intake, upload.upload_id)
        assert await tokens_in_store(intake) == set()


class UndroppableStore(MemoryChunkStore):
    """A store whose `drop` fails."""

    async def drop(self, upload_id: str, tokens: Any) -> None:
        raise Unavailable("STORE_UNAVAILABLE", "The store does not answer.")


async def test_failed_drop_does_not_fail_the_acknowledgement() -> None:
    async with running_intake(chunks=UndroppableStore()) as intake:
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, b"data")
        assert (await intake.send(upload.upload_id, 0, b"data")).duplicate


async def test_many_cancellations_leave_no_bytes_or_reservations() -> None:
    random_pause = random.Random(11)
    with capture_logs() as logs:
        async with running_intake() as intake:
            upload = await intake.initiate(chunk_size=100_000)

            async def one(number: int) -> None:
                call = intake.stream()
                task = asyncio.ensure_future(read_all(call, Answered()))
                try:
                    async with asyncio.timeout(random_pause.uniform(0.0, 0.05)):
                        for frame in frames_of(
                            upload.upload_id, number, bytes(100_000), block_bytes=1000
                        ):
                            await call.write(frame)
                        await call.done_writing()
                        await asyncio.shield(task)
                except (TimeoutError, asyncio.CancelledError, grpc.aio.AioRpcError):
                    call.cancel()
                await asyncio.gather(task, return_exceptions=True)

            await asyncio.gather(*(one(number) for number in range(100)))
            await until(lambda: nothing_is_left(intake, upload.upload_id))
            status = await intake.status(upload.upload_id)
            assert len(await tokens_in_store(intake)) == status.received_chunks
            for number in range(100):  # missing chunks can be sent again
                await intake.send(upload.upload_id, number, bytes(100_000))
            assert (await intake.status(upload.upload_id)).received_chunks == 100
    assert [line for line in logs if line["event"] == "rpc.defect"] == []


def of_calls() -> list[object]:
    """Return the per-call objects of this process that are still in memory."""
    return [one for one in gc.get_objects() if type(one) in (IncomingChunk, Permit, _Stream)]


class SlowToRelease(HeldLedger):
    """A ledger whose `release_chunk` waits for `go_on`."""

    async def release_chunk(self, offer: Any) -> None:
        self.reached.set()
        await self.go_on.wait()
        await self._ledger.release_chunk(offer)


async def test_call_cancelled_during_cleanup_is_freed_afterwards() -> None:
    ledger: Any = SlowToRelease()
    async with running_intake(ledger=ledger) as intake:
        upload = await intake.initiate()
        gc.collect()
        gc.disable()
        try:
            call = intake.stream()
            await call.write(header(upload.upload_id, 0, 2 * MIB))
            await call.write(block(bytes(MIB)))
            await call.done_writing()
            await ledger.reached.wait()
            call.cancel()
            await asyncio.sleep(0.1)
            ledger.go_on.set()
            await until(lambda: not of_calls(), what="nothing of the call is left")
        finally:
            gc.enable()


@pytest.mark.parametrize("way", ["stream", "stream, refused", "unary"])
async def test_cancelled_call_is_freed_at_once(way: str) -> None:
    """Not only when the garbage collector runs: its frames hold blocks."""
    ledger: Any = HeldLedger()
    async with running_intake(ledger=ledger) as intake:
        upload = await intake.initiate()
        gc.collect()
        gc.disable()
        try:
            if way == "unary":
                sending = asyncio.ensure_future(intake.send(upload.upload_id, 0, b"committed"))
                await ledger.reached.wait()
                assert of_calls() != []
                sending.cancel()
            else:
                call = intake.stream()
                await call.write(header(upload.upload_id, 0, 2 * MIB))
                await call.write(block(bytes(MIB)))
                await until(of_calls)
                if way == "stream, refused":
                    await call.write(block(bytes(MIB + 1)))
                    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
                else:
                    call.cancel()
            ledger.go_on.set()
            await until(lambda: not of_calls(), what="nothing of the call is left")
        finally:
            gc.enable()


async def test_cancelled_watch_ends_its_subscription() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        for _ in range(20):
            watch = intake.watch(upload.upload_id)
            await anext(watch)
            await watch.aclose()  # type: ignore[attr-defined]
        assert (await intake.status(upload.upload_id)).state
