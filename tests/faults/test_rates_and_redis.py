"""Rate limits of two intakes that share a Redis, which is killed, paused and restarted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from support.processes import ServiceProcess
from support.redis_server import RedisServer
from support.waiting import metric

BURST = 6
SETTINGS = {
    "SLUICE_COORDINATION": "redis",
    "SLUICE_CHUNK_TRANSPORT": "redis",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
    # A burst of six uploads, and one more every minute.
    "SLUICE_RATES__TENANT_CALLS_PER_SECOND": "1000",
    "SLUICE_RATES__TENANT_UPLOADS_PER_MINUTE": "1",
    "SLUICE_RATES__BURST_SECONDS": "360",
}
"""Calls are all but unlimited; every upload asks the shared bucket."""


class LimitedIntake:
    """An intake process and a client that counts."""

    def __init__(self, process: ServiceProcess, channel: grpc.Channel) -> None:
        self.process = process
        self.stub = IntakeServiceStub(channel)

    def initiate(self) -> str:
        """Return the reason of the refusal, or an empty string."""
        try:
            self.stub.InitiateUpload(pb.InitiateUploadRequest(drive="d", path="p"), timeout=30)
        except grpc.RpcError as error:
            text = str(error.details())
            return f"{error.code().name}: {text}"
        return ""

    def metric(self, name: str) -> float:
        return asyncio.run(metric(self.process.metrics_address, name))


Pair = tuple[LimitedIntake, LimitedIntake]


@pytest.fixture(name="redis")
def a_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(name="intakes")
def two_intakes(redis: RedisServer, tmp_path: Path) -> Iterator[Pair]:
    settings = {**SETTINGS, "SLUICE_REDIS__URL": redis.url}
    with ExitStack() as stack:

        def start() -> LimitedIntake:
            process = stack.enter_context(ServiceProcess("sluice_intake", tmp_path, settings))
            channel = stack.enter_context(grpc.insecure_channel(process.address))
            return LimitedIntake(process, channel)

        yield start(), start()


def initiate_in_turns(intakes: Pair, rounds: int) -> list[str]:
    return [intake.initiate() for _ in range(rounds) for intake in intakes]


def test_two_intakes_share_one_bucket(intakes: Pair) -> None:
    answers = initiate_in_turns(intakes, BURST)
    assert answers[:BURST] == [""] * BURST
    assert all(each.startswith("RESOURCE_EXHAUSTED") for each in answers[BURST:])
    refused = sum(each.metric("sluice_rate_limited_total") for each in intakes)
    assert refused == BURST
    assert sum(each.metric("sluice_rate_local_decisions_total") for each in intakes) == 0


@pytest.mark.row(2)
def test_killed_redis_leaves_each_intake_its_own_limit(intakes: Pair, redis: RedisServer) -> None:
    """Calls that need no Redis are answered, and the limits go on within each process."""
    redis.kill()
    for intake in intakes:
        for _ in range(20):
            intake.stub.GetLimits(pb.GetLimitsRequest(), timeout=30)
        answers = [intake.initiate() for _ in range(2 * BURST)]
        assert {each.split(":")[0] for each in answers[:BURST]} == {"UNAVAILABLE"}
        assert {each.split(":")[0] for each in answers[BURST:]} == {"RESOURCE_EXHAUSTED"}
        assert intake.metric("sluice_rate_local_decisions_total") >= BURST + 1
    redis.start()
    for intake in intakes:
        _until_shared_again(intake)


@pytest.mark.row(2)
def test_paused_redis_delays_few_calls(intakes: Pair, redis: RedisServer) -> None:
    """One call in a second waits for Redis, half a second at most; the others do not."""
    intake, _ = intakes
    intake.stub.GetLimits(pb.GetLimitsRequest(), timeout=30)
    redis.pause()
    try:
        began = time.monotonic()
        delayed, calls = 0, 200
        for _ in range(calls):
            started = time.monotonic()
            intake.stub.GetLimits(pb.GetLimitsRequest(), timeout=30)
            delayed += time.monotonic() - started >= 0.4
        took = time.monotonic() - began
    finally:
        redis.resume()
    assert delayed >= 1
    assert delayed <= 1 + took, "at most one a second"
    _until_shared_again(intake)


def _until_shared_again(intake: LimitedIntake) -> None:
    deadline = time.monotonic() + 60
    while "rates.sharing_resumed" not in intake.process.log.read_text():
        assert time.monotonic() < deadline, intake.process.log_tail()
        intake.stub.GetLimits(pb.GetLimitsRequest(), timeout=30)
        time.sleep(0.1)
    assert intake.process.log.read_text().count("rates.sharing_failed") == 1
