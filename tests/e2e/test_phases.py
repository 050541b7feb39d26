"""Supported backend combinations: each phase of the plan completes an upload."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from sluice_core.combinations import (
    SUPPORTED_COMBINATIONS,
    BackendCombination,
    CatalogueKind,
    ChunkTransport,
    Coordination,
    Events,
    Objects,
)
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from support import kafka, s3_server
from support.deployments import Deployment, Services
from support.processes import ServiceProcess
from support.shared_services import SharedServices, end_to_end_deployment
from support.wire import CHANNEL_OPTIONS, WireClient, cut

MIB = 1024 * 1024
CONTENT = random.Random(5).randbytes(21 * MIB)
TOGETHER = [
    combination
    for row in SUPPORTED_COMBINATIONS
    if row.standalone_only
    for combination in row.combinations()
]
# `make test` runs one combination of each phase, `make check` all of them.
APART = [
    pytest.param(combination, marks=[pytest.mark.long] if number else [])
    for row in SUPPORTED_COMBINATIONS
    if not row.standalone_only
    for number, combination in enumerate(row.combinations())
]


def name_of(combination: BackendCombination) -> str:
    row = next(row for row in SUPPORTED_COMBINATIONS if combination in row.combinations())
    return f"{row.name}: {combination.objects}, {combination.events}, {combination.catalogue}"


@dataclass(frozen=True, slots=True)
class Running:
    """A deployment of one intake and, if the combination needs it, one repository."""

    combination: BackendCombination
    services: Services | SharedServices
    intake: ServiceProcess
    repository: ServiceProcess | None


def settings_of(
    combination: BackendCombination, services: Deployment, folder: Path
) -> Mapping[str, str]:
    return {
        **services.settings,
        "SLUICE_DATA_DIR": str(folder),
        "SLUICE_COORDINATION": combination.coordination,
        "SLUICE_CHUNK_TRANSPORT": combination.chunk_transport,
        "SLUICE_OBJECTS": combination.objects,
        "SLUICE_EVENTS": combination.events,
        "SLUICE_CATALOGUE": combination.catalogue,
    }


@pytest.fixture(params=APART, ids=name_of)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    combination: BackendCombination = request.param
    with ExitStack() as stack:
        services = stack.enter_context(end_to_end_deployment(Services.name, tmp_path))
        assert isinstance(services, Services | SharedServices)
        settings = settings_of(combination, services, tmp_path)
        repository = None
        if combination.chunk_transport is not ChunkTransport.LOCAL:
            repository = stack.enter_context(
                ServiceProcess("sluice_repository", tmp_path, settings)
            )
            settings = {**settings, "SLUICE_REPOSITORY_SERVER": repository.address}
        intake = stack.enter_context(ServiceProcess("sluice_intake", tmp_path, settings))
        yield Running(combination, services, intake, repository)


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[WireClient]:
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        yield WireClient(channel)


async def events_of(node_id: str, count: int) -> list[str]:
    """Return the types of a node's events in topic order, once there are `count`.

    Events that the relay published again under the same id are counted once.
    """
    options = kafka.shared_broker().options
    async with asyncio.timeout(60):
        while True:
            records = await kafka.records_in(options, UPLOADS_TOPIC)
            types = {
                each.event_id: each.type.rpartition(".")[2]
                for each in records
                if each.key == node_id
            }
            if len(types) >= count:
                return list(types.values())
            await asyncio.sleep(0.2)


async def test_combination_completes_an_upload(running: Running) -> None:
    combination = running.combination
    if combination.catalogue is not CatalogueKind.OFF:
        assert running.repository is not None
        async with calling(running.repository.address) as client:
            await client.repository.CreateDrive(repository_pb2.CreateDriveRequest(name="wire"))

    async with calling(running.intake.address) as client:
        opened = await client.initiate("a/photo.jpg", chunk_size=MIB)
        await client.send_streams(opened.upload_id, cut(CONTENT, itertools.repeat(MIB)), 2)
        status = await client.complete(opened.upload_id, total_chunks=21)
    assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED, status

    if combination.objects is Objects.S3:
        (key,) = await s3_server.objects_of(running.services.bucket)
        assert key.endswith(f"/{opened.node_id}")
        stored = await s3_server.content_of(running.services.bucket, key)
        assert hashlib.sha256(stored).digest() == hashlib.sha256(CONTENT).digest()
    if combination.catalogue is not CatalogueKind.OFF:
        assert running.repository is not None
        async with calling(running.repository.address) as client:
            expected = (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
            assert await client.read_sha256(opened.node_id) == expected
    if combination.events is Events.KAFKA:
        assert await events_of(opened.node_id, 2) == ["UploadInitiated", "UploadCompleted"]
    if combination.coordination is Coordination.REDIS:
        await asyncio.to_thread(running.services.assert_nothing_in_flight)


@pytest.mark.parametrize("combination", TOGETHER, ids=name_of)
async def test_standalone_combination_completes_an_upload(
    combination: BackendCombination, tmp_path: Path
) -> None:
    with end_to_end_deployment(Services.name, tmp_path) as services:
        assert isinstance(services, Services | SharedServices)
        with services.serving(settings_of(combination, services, services.data_dir)) as server:
            async with calling(server.address) as client:
                opened = await client.initiate("a/photo.jpg", chunk_size=MIB)
                await client.send_streams(opened.upload_id, cut(CONTENT, itertools.repeat(MIB)), 2)
                await client.complete(opened.upload_id, total_chunks=21)
                expected = (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
                assert await client.read_sha256(opened.node_id) == expected
        in_the_store = await s3_server.objects_of(services.bucket)
        assert len(in_the_store) == (combination.objects is Objects.S3)
