"""Rows 21 and 22: honest uploads beside 200 hostile connections."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB
from support.cores import on_cores, split_cores
from support.environment import process_environment
from support.server import StandaloneServer, standalone

SECONDS = float(os.environ.get("SLUICE_SOAK_SECONDS", "600"))
"""How long the hostile clients run."""
KINDS = [kind for kind in os.environ.get("SLUICE_SOAK_KINDS", "").split(",") if kind]
"""Kinds of hostile clients to run, separated by commas; all by default."""
HOSTILE, HONEST = 200, 8
CHUNKS = 4
PIECE = os.urandom(MIB)
NODE_BYTES = 16 * MIB

STREAM_BYTES = 3 * MIB
"""Memory of a stream that sends: its window and one block (docs/operations.md)."""
UNARY_BYTES = 128 * MIB
READER_BYTES = 2 * MIB
MEMORY_BYTES = UNARY_BYTES + (HOSTILE + HONEST) * STREAM_BYTES + 48 * READER_BYTES


@dataclass
class Seen:
    """The observations of the honest clients and the watcher in one phase."""

    acknowledged: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    unhealthy: list[str] = field(default_factory=list)
    completed: int = 0
    most_bytes: int = 0

    @property
    def p99(self) -> float:
        return sorted(self.acknowledged)[int(0.99 * len(self.acknowledged))]


async def upload(stub: Any, name: str, seen: Seen | None, chunks: int) -> str:
    """Upload chunks of 1 MiB, each acknowledged before the next; return the node id."""
    opened = await stub.InitiateUpload(
        pb.InitiateUploadRequest(drive="honest", path=name, chunk_size=MIB), timeout=30
    )
    call = stub.UploadStream(timeout=60)
    for number in range(chunks):
        header = pb.ChunkHeader(
            upload_id=opened.upload_id, number=number, size=MIB, crc32c=crc32c(PIECE)
        )
        await call.write(pb.UploadStreamRequest(header=header, data=PIECE))
        sent_at = time.perf_counter()
        while (await call.read()).WhichOneof("event") != "accepted":
            pass
        if seen is not None:
            seen.acknowledged.append(time.perf_counter() - sent_at)
    await call.done_writing()
    request = pb.CompleteUploadRequest(upload_id=opened.upload_id, total_chunks=chunks)
    request.wait.FromSeconds(30)
    status = (await stub.CompleteUpload(request, timeout=60)).status
    assert status.state == pb.UPLOAD_STATE_COMPLETED, pb.UploadState.Name(status.state)
    if seen is not None:
        seen.completed += 1
    return str(opened.node_id)


async def honest(server: StandaloneServer, number: int, seen: Seen, until: float) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        stub = IntakeServiceStub(channel)
        while time.monotonic() < until:
            try:
                await upload(stub, f"{number}/{time.monotonic_ns()}", seen, CHUNKS)
            except (grpc.aio.AioRpcError, AssertionError) as error:
                seen.failures.append(repr(error))


def health(address: str) -> None:
    """Raise `OSError` when the server is not healthy."""
    with urllib.request.urlopen(f"http://{address}/healthz", timeout=5):
        pass


async def watch(server: StandaloneServer, seen: Seen) -> None:
    process = psutil.Process(server.pid)
    while True:
        try:
            await asyncio.to_thread(health, server.metrics_address)
        except OSError as error:
            seen.unhealthy.append(repr(error))
        seen.most_bytes = max(seen.most_bytes, process.memory_info().rss)
        await asyncio.sleep(0.25)


async def phase(server: StandaloneServer, seconds: float) -> Seen:
    """Run the honest clients for `seconds`; return their observations."""
    seen, until = Seen(), time.monotonic() + seconds
    watching = asyncio.create_task(watch(server, seen))
    try:
        await asyncio.gather(*(honest(server, number, seen, until) for number in range(HONEST)))
    finally:
        watching.cancel()
    return seen


@contextmanager
def server_beside(data_dir: Path) -> Iterator[StandaloneServer]:
    """Run a server on its own core; pin this process and its children to the other cores.

    This models clients on other machines, which take no processor time from the server.
    """
    server_cores, client_cores = split_cores()
    with ExitStack() as stack:
        with on_cores(server_cores):
            server = stack.enter_context(standalone(data_dir, {"SLUICE_LOG_LEVEL": "error"}))
        stack.enter_context(on_cores(client_cores))
        yield server


@asynccontextmanager
async def hostile_clients(server: StandaloneServer, node_id: str) -> AsyncIterator[dict[str, int]]:
    """Run the hostile connections; at the exit, fill the yielded dict with starts per kind.

    Their process has a low priority, so that it does not slow the honest clients.
    """
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "10", sys.executable, "-m", "support.hostile_clients"),
        *(server.address, server.repository_address, node_id, str(HOSTILE), *KINDS),
        cwd=Path(__file__).parent.parent,
        env=process_environment({}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    begun: dict[str, int] = {}
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield begun
        process.stdin.close()
        begun |= json.loads(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.row(21)
@pytest.mark.row(22)
@pytest.mark.slow_fault
@pytest.mark.timeout(3 * SECONDS + 300)
async def test_hostile_clients_do_not_slow_honest_uploads(tmp_path: Path) -> None:
    """The 99th percentile of the acknowledgement time at most doubles, no call fails, memory stays
    within its bound, and the server is healthy throughout."""
    with server_beside(tmp_path / "data") as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = IntakeServiceStub(channel)
            node_id = await upload(stub, "large", None, NODE_BYTES // MIB)
        await phase(server, 3.0)  # warm-up
        alone = await phase(server, max(10.0, SECONDS / 10))
        async with hostile_clients(server, node_id) as begun:
            beside = await phase(server, SECONDS)
        after = await phase(server, 5.0)
    report = (
        f"p99 alone {alone.p99 * 1000:.1f} ms, beside {beside.p99 * 1000:.1f} ms; "
        f"{beside.completed} uploads; memory {alone.most_bytes >> 20} MiB, "
        f"then {beside.most_bytes >> 20} MiB; hostile: {begun}"
    )
    sys.stdout.write(f"{report}\n")  # pytest -s shows it
    assert min(begun.values()) >= HOSTILE / 5
    assert [seen.failures for seen in (alone, beside, after)] == [[], [], []]
    assert [seen.unhealthy for seen in (alone, beside, after)] == [[], [], []]
    assert beside.most_bytes <= alone.most_bytes + MEMORY_BYTES
    assert beside.completed > 0
    assert beside.p99 <= 2 * alone.p99, report
