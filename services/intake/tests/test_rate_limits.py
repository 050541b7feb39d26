"""Rate limits of an intake: uploads are refused, streams slowed down, bytes counted once."""

from __future__ import annotations

import asyncio
import time

import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.settings.rates import Rates
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import MAX_UNARY_MESSAGE_BYTES, MIB
from sluice_intake.options import IntakeOptions
from support.intake import Intake, frames_of, refusal, running_intake

UPLOADS = Rates(tenant_uploads_per_minute=2, burst_seconds=60.0)
STREAMED = Rates(tenant_bytes_per_second=4 * MIB, burst_seconds=0.25)
DAILY = Rates(tenant_bytes_per_second=1000, burst_seconds=1.0)
"""So slow that a mebibyte is a debt of a quarter of an hour."""


def limited(intake: Intake, kind: str, outcome: str) -> float:
    labels = {"kind": kind, "scope": "tenant", "outcome": outcome}
    value = intake.metrics.registry.get_sample_value("sluice_rate_limited_total", labels)
    return value or 0.0


async def test_uploads_above_the_rate_are_refused() -> None:
    async with running_intake(rates=UPLOADS) as intake:
        upload = await intake.initiate("a")
        await intake.initiate("b", inline_data=b"small")
        error = await refusal(intake.initiate("c"))
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert error.retry_after_seconds is not None
        assert 20 < error.retry_after_seconds <= 30
        await intake.send(upload.upload_id, 0, b"others go on")
        await intake.of("other").initiate("c")
        assert limited(intake, "uploads", "refused") == 1


async def test_stream_above_the_rate_is_slowed_down() -> None:
    """It is neither broken nor stalled; `Throttled` names the chunk that waits."""
    async with running_intake(rates=STREAMED) as intake:
        upload = await intake.initiate()
        frames = [
            frame
            for number in range(3)
            for frame in frames_of(upload.upload_id, number, bytes(2 * MIB))
        ]
        began = time.monotonic()
        answered = await intake.send_stream(frames)
        took = time.monotonic() - began
        assert (answered.error, answered.numbers) == (None, [0, 1, 2])
        assert took >= 1.2, "6 MiB less the burst, at 4 MiB/s"
        assert {event.reason for event in answered.throttled} == {"RATE_LIMITED"}
        assert all(event.needed_number == event.number for event in answered.throttled)
        assert len(answered.throttled) == 3, "short delays are reported once per chunk"
        assert limited(intake, "bytes", "delayed") >= 5
        assert intake.metrics.registry.get_sample_value("sluice_received_bytes_total") == 6 * MIB


async def test_delay_is_no_stall_of_the_client() -> None:
    """The reader waits longer than it would wait for a silent client."""
    impatient = IntakeOptions(chunk_stall_seconds=0.5)
    async with running_intake(impatient, rates=STREAMED) as intake:
        upload = await intake.initiate()
        answered = await intake.send_stream(frames_of(upload.upload_id, 0, bytes(6 * MIB)))
        assert (answered.error, answered.numbers) == (None, [0])


async def test_rate_does_not_hide_a_full_budget() -> None:
    """The second chunk waits for its rate, then for room: it names the chunk that is needed."""
    ledger = LedgerOptions(
        budget_bytes=6 * MIB, tenant_budget_bytes=6 * MIB, upload_budget_bytes=64 * MIB
    )
    full = IntakeOptions(ledger=ledger, budget_stall_seconds=0.4)
    async with running_intake(full, rates=STREAMED) as intake:
        upload = await intake.initiate(chunk_size=4 * MIB)
        frames = [
            frame
            for number in (1, 2)
            for frame in frames_of(upload.upload_id, number, bytes(4 * MIB), block_bytes=MIB // 8)
        ]
        answered = await intake.send_stream(frames)
        assert answered.error is not None
        assert answered.error.reason == "BUDGET_FULL"
        last = answered.throttled[-1]
        assert (last.reason, last.needed_number) == ("BUDGET_FULL", 0)


async def test_header_with_data_is_slowed_down_too() -> None:
    async with running_intake(rates=STREAMED) as intake:
        upload = await intake.initiate()
        frames = []
        for number in range(3):
            header, *blocks = frames_of(upload.upload_id, number, bytes(MIB))
            header.data = blocks[0].data
            frames.append(header)
        began = time.monotonic()
        answered = await intake.send_stream(frames)
        assert answered.error is None
        assert time.monotonic() - began >= 0.45


async def test_unary_chunk_is_refused_before_it_is_read() -> None:
    """The chunk before it has been received, so it counts although it exceeds the rate."""
    async with running_intake(rates=DAILY) as intake:
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, bytes(MIB))
        error = await refusal(intake.send(upload.upload_id, 1, bytes(MIB)))
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert error.metadata == {"kind": "bytes", "scope": "tenant", "limit": "1000"}
        assert error.retry_after_seconds is not None
        assert 1000 < error.retry_after_seconds < 1050
        assert limited(intake, "bytes", "refused") == 1


async def test_unary_chunks_at_once_do_not_pass_together() -> None:
    """One has the only permit; the others were admitted before it was charged."""
    one_permit = IntakeOptions(unary_budget_bytes=MAX_UNARY_MESSAGE_BYTES)
    async with running_intake(one_permit, rates=DAILY) as intake:
        upload = await intake.initiate()
        sends = [intake.send(upload.upload_id, number, bytes(MIB)) for number in range(5)]
        answers = await asyncio.gather(*sends, return_exceptions=True)
        refused = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
        assert len(answers) - len(refused) == 1
        assert {from_rpc_error(each).reason for each in refused} == {"RATE_LIMITED"}


async def test_inline_data_counts_and_leaves_no_upload() -> None:
    async with running_intake(rates=DAILY) as intake:
        await intake.initiate("a", inline_data=bytes(MIB))
        error = await refusal(intake.initiate("b", inline_data=b"1"))
        assert error.reason == "RATE_LIMITED"
        await intake.initiate("c", inline_data=b"")
        listed = await intake.stub.ListUploads(pb.ListUploadsRequest(), metadata=intake.metadata)
        assert sorted(each.path for each in listed.uploads) == ["a", "c"]


async def test_inline_data_is_counted_once() -> None:
    rates = Rates(tenant_bytes_per_second=1, burst_seconds=1000.0)
    async with running_intake(rates=rates) as intake:
        for path in ("a", "b"):
            await intake.initiate(path, inline_data=bytes(500))
        assert limited(intake, "bytes", "delayed") == 0


@pytest.mark.parametrize(
    ("rates", "uploads", "calls", "size"),
    [
        (None, 0, 0, 0),
        (Rates(), 0, 0, 0),
        (Rates(tenant_uploads_per_minute=5, subject_uploads_per_minute=3), 3, 0, 0),
        (Rates(tenant_calls_per_second=70, subject_bytes_per_second=9), 0, 70, 9),
    ],
    ids=["off", "default", "subject below tenant", "calls and bytes"],
)
async def test_get_limits_reports_the_rates_of_the_caller(
    rates: Rates | None, uploads: int, calls: int, size: int
) -> None:
    async with running_intake(rates=rates) as intake:
        answer = await intake.stub.GetLimits(pb.GetLimitsRequest(), metadata=intake.metadata)
        assert answer.rate_limits == pb.RateLimits(
            uploads_per_minute=uploads, calls_per_second=calls, bytes_per_second=size
        )
