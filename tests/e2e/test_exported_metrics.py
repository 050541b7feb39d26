"""`/metrics` of the services as processes; tests/e2e/test_photos.py has that of the processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc.aio
import pytest

from sluice_core.uploads.model import MIB
from support.exported_metrics import documented, documented_by_switch, scraped
from support.processes import ServiceProcess
from support.server import standalone
from support.waiting import metric
from support.wire import CHANNEL_OPTIONS, WireClient, cut

PHASE_2: Final = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_CHUNK_TRANSPORT": "direct",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess("sluice_repository", tmp_path, PHASE_2) as process:
        yield process


@pytest.fixture
def intake(repository: ServiceProcess, tmp_path: Path) -> Iterator[ServiceProcess]:
    settings = {**PHASE_2, "SLUICE_REPOSITORY_SERVER": repository.address}
    with ServiceProcess("sluice_intake", tmp_path, settings) as process:
        yield process


async def test_separate_services_export_their_own(
    intake: ServiceProcess, repository: ServiceProcess
) -> None:
    """After an upload, so that families which only appear with it are seen too."""
    async with grpc.aio.insecure_channel(intake.address, options=CHANNEL_OPTIONS) as channel:
        client = WireClient(channel)
        opened = await client.initiate("a/file", chunk_size=MIB)
        await client.send_stream(opened.upload_id, cut(bytes(2 * MIB), [MIB, MIB]))
    assert await metric(intake.metrics_address, "sluice_chunks_total") > 0
    assert await metric(repository.metrics_address, "sluice_sink_chunks_total") > 0
    assert scraped(intake.metrics_address) == documented()["intake"]
    assert scraped(repository.metrics_address) == documented()["repository"]


def test_gateway_exports_its_own(tmp_path: Path) -> None:
    """It verifies its own tokens, so that it has the families of keys in any mode."""
    gateway = ServiceProcess(
        "sluice_gateway", tmp_path, {"SLUICE_DATA_DIR": str(tmp_path / "data")}
    )
    url = f"http://{gateway.address}"
    issuer = {"SLUICE_AUTH__MODE": "jwt", "SLUICE_AUTH__ISSUER": url}
    gateway.add_settings({**issuer, "SLUICE_AUTH__AUDIENCE": "sluice"})
    with gateway:
        families = scraped(gateway.metrics_address)
        assert scraped(gateway.address) == families
    of_tokens = documented_by_switch()["SLUICE_AUTH__MODE=jwt"]
    assert families == documented()["gateway"] | of_tokens


def test_standalone_exports_all(tmp_path: Path) -> None:
    with standalone(tmp_path) as server:
        families = scraped(server.metrics_address)
    of_tokens = documented_by_switch()["SLUICE_AUTH__MODE=jwt"]  # the gateway verifies its own
    assert families == of_tokens.union(*documented().values())
