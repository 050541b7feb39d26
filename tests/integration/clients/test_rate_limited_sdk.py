"""The SDK against an intake with rate limits: it waits as requested and loses nothing."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_client import Client, ClientOptions, Phase, Progress
from sluice_common.settings.rates import Rates
from sluice_core.uploads.model import MIB
from support.intake import running_intake
from support.part_worker import working_for

STREAMS = {
    "grpc_type": "bidi_stream",
    "grpc_service": "sluice.upload.v1.IntakeService",
    "grpc_method": "UploadStream",
}


@pytest.fixture(name="options")
def client_options(tmp_path: Path) -> ClientOptions:
    return ClientOptions(state_dir=tmp_path)


async def test_upload_waits_for_the_rate_of_calls(options: ClientOptions) -> None:
    """Two calls at once and one every 0.4 s: the calls of two uploads take their time."""
    rates = Rates(tenant_calls_per_second=3, burst_seconds=0.7)
    async with (
        running_intake(rates=rates) as intake,
        working_for(intake) as worker,
        Client(intake.address, options=options) as client,
    ):
        for path in ("a", "b"):
            result = await client.upload(b"content" * 1000, drive="d", path=path)
            assert result.node_id
        refused = intake.metrics.registry.get_sample_value(
            "sluice_rate_limited_total",
            {"kind": "calls", "scope": "tenant", "outcome": "refused"},
        )
        assert refused
        assert worker is not None


async def test_uploads_wait_for_their_rate(options: ClientOptions) -> None:
    rates = Rates(tenant_uploads_per_minute=60, burst_seconds=1.0)
    async with (
        running_intake(rates=rates) as intake,
        working_for(intake),
        Client(intake.address, options=options) as client,
    ):
        began = time.monotonic()
        for path in ("a", "b", "c"):
            await client.upload(b"content", drive="d", path=path)
        assert time.monotonic() - began >= 1.9


async def test_streams_are_slowed_down_and_not_broken(options: ClientOptions) -> None:
    """No byte is sent twice, and progress names the reason of the wait."""
    rates = Rates(tenant_bytes_per_second=4 * MIB, burst_seconds=0.25)
    data = random.Random(1).randbytes(10 * MIB)
    seen: list[Progress] = []
    async with (
        running_intake(rates=rates) as intake,
        working_for(intake) as worker,
        Client(intake.address, options=options) as client,
    ):
        began = time.monotonic()
        await client.upload(
            data, drive="d", path="p", chunk_size=MIB, streams=3, on_progress=seen.append
        )
        assert time.monotonic() - began >= 2.2
        listed = await intake.stub.ListUploads(pb.ListUploadsRequest(), metadata=intake.metadata)
        (upload,) = listed.uploads
        assert worker.object_of(upload.upload_id) == data
        values = intake.metrics.registry.get_sample_value
        assert values("sluice_received_bytes_total") == len(data)
        assert values("sluice_chunks_total", {"verdict": "duplicate"}) is None
        assert values("grpc_server_started_total", STREAMS) == 3
    assert any(each.phase is Phase.THROTTLED for each in seen)
    assert any("RATE_LIMITED" in each.waiting_for for each in seen)


async def test_delay_beyond_the_stall_timeout_is_no_stall(options: ClientOptions) -> None:
    rates = Rates(tenant_bytes_per_second=MIB // 2, burst_seconds=0.5)
    impatient = replace(options, stall_seconds=0.6)
    async with (
        running_intake(rates=rates) as intake,
        working_for(intake),
        Client(intake.address, options=impatient) as client,
    ):
        await client.upload(bytes(3 * MIB), drive="d", path="p", chunk_size=3 * MIB, streams=1)
        values = intake.metrics.registry.get_sample_value
        assert values("grpc_server_started_total", STREAMS) == 1


async def test_limits_name_the_rates(options: ClientOptions) -> None:
    rates = Rates(
        tenant_uploads_per_minute=5, subject_calls_per_second=70, subject_bytes_per_second=9
    )
    async with (
        running_intake(rates=rates) as intake,
        Client(intake.address, options=options) as client,
    ):
        limits = await client.limits()
        assert limits.uploads_per_minute == 5
        assert limits.calls_per_second == 70
        assert limits.bytes_per_second == 9
