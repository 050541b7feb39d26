"""Certificates rotated under load: no upload fails, no stream breaks, the old ones are refused."""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sluice.upload.v1 import upload_pb2 as pb
from support.certificates import Authority, Issued, TlsPaths, replace, write_tls
from support.processes import ServiceProcess
from support.waiting import until
from support.wire import CHANNEL_OPTIONS, EOF, WireClient, cut

ROTATIONS = int(os.environ.get("SLUICE_TLS_ROTATIONS", "20"))
"""How often the certificates are rotated."""
PAUSE_SECONDS = float(os.environ.get("SLUICE_TLS_ROTATION_SECONDS", "0.2"))
"""Pause between rotations, at least; 24 rotations every 5 s take two minutes."""
SECONDS = 60.0
SIZE = 64 * 1024
PIECE = random.Random(3).randbytes(SIZE)
INTAKE = "spiffe://cluster/intake"
REPOSITORY = "spiffe://cluster/repository"
PHASE_2 = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_CHUNK_TRANSPORT": "direct",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
}
SINK = "/sluice.repository.v1.ChunkSinkService/PutChunks"


@dataclass
class Deployment:
    """An intake and a repository with mTLS, and the files of everybody."""

    authority: Authority
    intake: ServiceProcess
    repository: ServiceProcess
    intake_files: TlsPaths
    repository_files: TlsPaths
    user: Issued
    trusted: bytes

    def channel(self, address: str, issued: Issued | None = None) -> grpc.aio.Channel:
        """Return a new connection with the user's certificate, or another one."""
        shown = issued or self.user
        credentials = grpc.ssl_channel_credentials(self.trusted, shown.key, shown.cert)
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(address, credentials, options)

    def scrape(self) -> dict[str, float]:
        """Return the chunks that the repository received, by outcome."""
        context = ssl.create_default_context(cadata=self.trusted.decode())
        url = f"https://{self.repository.metrics_address}/metrics"
        with urlopen(url, context=context, timeout=SECONDS) as answer:
            text = answer.read().decode()
        return {
            sample.labels["outcome"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "sluice_sink_chunks_total"
        }


@dataclass
class Load:
    """What the uploads saw so far."""

    acknowledged: int = 0
    completed: list[pb.UploadState.ValueType] = field(default_factory=list)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    authority = Authority("first")
    intake_files = write_tls(tmp_path / "intake", authority, authority.issue(uris=[INTAKE]))
    repository_files = write_tls(
        tmp_path / "repository", authority, authority.issue(uris=[REPOSITORY])
    )
    serving = {**PHASE_2, **repository_files.environment(), "SLUICE_TLS__PEERS": INTAKE}
    with ServiceProcess("sluice_repository", tmp_path, serving) as repository:
        receiving = {
            **PHASE_2,
            **intake_files.environment(),
            "SLUICE_REPOSITORY_SERVER": repository.address,
        }
        with ServiceProcess("sluice_intake", tmp_path, receiving) as intake:
            yield Deployment(
                authority,
                intake,
                repository,
                intake_files,
                repository_files,
                authority.issue(uris=["spiffe://cluster/user"]),
                authority.pem,
            )


async def stream_on(wire: WireClient, stop: asyncio.Event, load: Load) -> None:
    """Send chunk after chunk over a single stream until `stop`; then complete the upload."""
    opened = await wire.initiate("long", chunk_size=SIZE)
    open_stream: Any = wire.intake.UploadStream
    call = open_stream()
    number = 0
    while not stop.is_set():
        header = pb.ChunkHeader(
            upload_id=opened.upload_id if number == 0 else "", number=number, size=SIZE
        )
        await call.write(pb.UploadStreamRequest(header=header, data=PIECE))
        async with asyncio.timeout(SECONDS):
            while (await call.read()).WhichOneof("event") != "accepted":
                pass
        number += 1
        load.acknowledged += 1
        await asyncio.sleep(0.01)  # leaves the machine to others
    await call.done_writing()
    while await call.read() is not EOF:
        pass
    assert await call.code() is grpc.StatusCode.OK
    load.completed.append((await wire.complete(opened.upload_id, number)).state)


async def reconnect_on(deployment: Deployment, stop: asyncio.Event, load: Load) -> None:
    """Upload small files until `stop`, each over a connection of its own."""
    number = 0
    while not stop.is_set():
        async with deployment.channel(deployment.intake.address) as channel:
            wire = WireClient(channel)
            opened = await wire.initiate(f"short/{number}", chunk_size=SIZE)
            await wire.send_streams(opened.upload_id, cut(PIECE * 3, [SIZE] * 3), 2)
            load.completed.append((await wire.complete(opened.upload_id, 3)).state)
        number += 1
        await asyncio.sleep(0.02)


@asynccontextmanager
async def under_load(deployment: Deployment) -> AsyncIterator[Load]:
    """Upload while the block runs; fail with the first upload that fails."""
    load, stop = Load(), asyncio.Event()
    async with (
        deployment.channel(deployment.intake.address) as channel,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(stream_on(WireClient(channel), stop, load))
        group.create_task(reconnect_on(deployment, stop, load))
        yield load
        stop.set()
    assert set(load.completed) == {pb.UPLOAD_STATE_COMPLETED}


async def shown(deployment: Deployment, address: str) -> bytes:
    """Return the certificate that a server shows to a new connection."""
    context = ssl.create_default_context(cadata=deployment.trusted.decode())
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return ssl.DER_cert_to_PEM_cert(der).encode()


async def rotate(deployment: Deployment, authority: Authority) -> tuple[Issued, Issued]:
    """Issue new certificates to both services; return when both show theirs."""
    days = datetime.timedelta(days=random.randint(1, 9), seconds=random.randint(0, 9999))
    intake = authority.issue(uris=[INTAKE], ends=days)
    repository = authority.issue(uris=[REPOSITORY], ends=days)
    intake.write(deployment.intake_files)
    repository.write(deployment.repository_files)
    for service, issued in ((deployment.intake, intake), (deployment.repository, repository)):
        await until(shows(deployment, service.address, issued), SECONDS, "the new certificate")
    return intake, repository


def shows(deployment: Deployment, address: str, issued: Issued) -> Callable[[], Any]:
    async def check() -> bool:
        return ssl.PEM_cert_to_DER_cert(
            (await shown(deployment, address)).decode()
        ) == ssl.PEM_cert_to_DER_cert(issued.cert.decode())

    return check


async def acknowledges(load: Load, chunks: int) -> None:
    """Wait for this number of further chunks."""
    before = load.acknowledged
    await until(lambda: load.acknowledged >= before + chunks, SECONDS, "chunks are acknowledged")


async def code_of(channel: grpc.aio.Channel, method: str) -> grpc.StatusCode:
    async with channel:
        open_stream: Any = channel.stream_stream(method, None, None)
        call = open_stream()
        async with asyncio.timeout(SECONDS):
            code: grpc.StatusCode = await call.code()
    return code


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_rotation_under_load_fails_no_upload(deployment: Deployment) -> None:
    """Then the authority changes as the runbook says, and what is old is refused."""
    first_intake = Issued(
        deployment.intake_files.cert.read_bytes(), deployment.intake_files.key.read_bytes()
    )
    async with under_load(deployment) as load:
        for _ in range(ROTATIONS):
            await rotate(deployment, deployment.authority)
            await acknowledges(load, 3)
            await asyncio.sleep(PAUSE_SECONDS)
        # Trust both authorities everywhere, change the certificates, then drop the old authority.
        successor = Authority("second")
        deployment.trusted = deployment.authority.pem + successor.pem
        logged = reloads(deployment.intake)
        for files in (deployment.intake_files, deployment.repository_files):
            replace(files.ca, deployment.trusted)
        # The intake's servers and its channel follow on their own.
        await until(lambda: reloads(deployment.intake) >= logged + 2, SECONDS, "both are trusted")
        logged = reloads(deployment.intake)
        await rotate(deployment, successor)
        deployment.user = successor.issue(uris=["spiffe://cluster/user"])
        await until(
            lambda: reloads(deployment.intake) >= logged + 2, SECONDS, "the new one is used"
        )
        deployment.trusted = successor.pem
        logged = reloads(deployment.intake)
        for files in (deployment.intake_files, deployment.repository_files):
            replace(files.ca, successor.pem)
        await until(lambda: reloads(deployment.intake) >= logged + 2, SECONDS, "the old is dropped")
        await acknowledges(load, 20)

        old_user = deployment.authority.issue(uris=["spiffe://cluster/user"])
        for address, issued, method in (
            (deployment.intake.address, old_user, "/sluice.upload.v1.IntakeService/UploadStream"),
            (deployment.repository.address, first_intake, SINK),
        ):
            code = await code_of(deployment.channel(address, issued), method)
            assert code is grpc.StatusCode.UNAVAILABLE
        # A user's certificate is valid, but no service.
        code = await code_of(deployment.channel(deployment.repository.address), SINK)
        assert code is grpc.StatusCode.PERMISSION_DENIED
    sent = load.acknowledged + 3 * (len(load.completed) - 1)
    assert await asyncio.to_thread(deployment.scrape) == {"ACCEPTED": sent}


def reloads(service: ServiceProcess) -> int:
    return service.log.read_text(encoding="utf-8").count("tls_files.reloaded")
