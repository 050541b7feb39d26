"""Tests of the reader slots: limits, fair shares and stalled readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2 as pb
from sluice.repository.v1.repository_pb2_grpc import RepositoryServiceStub
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.settings import load_settings
from sluice_core.errors import DeadlineExceeded, ResourceExhausted
from sluice_core.uploads.model import MIB
from sluice_repository.rpc.reader_slots import Reader, ReaderOptions, ReaderSlots
from sluice_repository.settings import reader_options
from support.repository import Repository, running_repository, serving

QUICK = ReaderOptions(
    max_readers=4,
    per_tenant=3,
    per_connection=2,
    wait_seconds=0.2,
    yield_seconds=0.05,
    stall_seconds=5.0,
)
CONTENT = bytes(8 * MIB)


async def never(_piece: bytes) -> None:
    await asyncio.Event().wait()


class Stalled:
    """A reader whose client takes no data; its task returns the reason it ended with."""

    def __init__(self, slots: ReaderSlots, tenant: str, connection: str) -> None:
        self.has_slot = asyncio.Event()
        self._slots, self._tenant, self._connection = slots, tenant, connection
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> str:
        async with self._slots.slot(self._tenant, self._connection) as reader:
            self.has_slot.set()
            try:
                await reader.send(b"x", never)
            except DeadlineExceeded as error:
                return error.reason
        return ""


@asynccontextmanager
async def stalled(slots: ReaderSlots, *readers: tuple[str, str]) -> AsyncIterator[list[Stalled]]:
    stalled_readers = [Stalled(slots, *one) for one in readers]
    for reader in stalled_readers:
        await reader.has_slot.wait()
    try:
        yield stalled_readers
    finally:
        for reader in stalled_readers:
            reader.task.cancel()
        await asyncio.gather(*(reader.task for reader in stalled_readers), return_exceptions=True)


async def test_stalled_reader_yields_its_slot() -> None:
    slots = ReaderSlots(replace(QUICK, wait_seconds=20.0))
    crowd = [("a", "1"), ("a", "1"), ("a", "2"), ("b", "3")]
    async with stalled(slots, *crowd) as held, slots.slot("c", "4"):
        done, _ = await asyncio.wait(
            [reader.task for reader in held], return_when="FIRST_COMPLETED"
        )
        assert {task.result() for task in done} == {"READ_STALLED"}
        assert done <= {held[0].task, held[1].task}  # of the connection that has most


async def test_tenant_at_its_limit_ends_its_own_readers() -> None:
    slots = ReaderSlots(replace(QUICK, wait_seconds=20.0))
    crowd = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4")]
    async with stalled(slots, *crowd) as held, slots.slot("a", "5"):
        assert not held[3].task.done()


async def test_active_readers_keep_their_slots() -> None:
    """Active readers are not ended for a waiting one: it is refused after its wait."""
    slots = ReaderSlots(QUICK)
    async with AsyncExitStack() as stack:
        for connection in ("1", "2", "3"):
            await stack.enter_async_context(slots.slot("a", connection))
        with pytest.raises(ResourceExhausted) as refused:
            async with slots.slot("a", "4"):
                pytest.fail("there was no free slot")
        assert refused.value.reason == "READERS_BUSY"
        assert refused.value.retry_after_seconds
        async with slots.slot("b", "4"):
            pass


async def test_each_connection_has_its_own_limit() -> None:
    slots = ReaderSlots(QUICK)
    async with slots.call_slot("1"), slots.call_slot("1"):
        with pytest.raises(ResourceExhausted, match="READERS_BUSY"):
            async with slots.call_slot("1"):
                pytest.fail("there was no free slot")
        async with slots.call_slot("2"):
            pass
    async with slots.call_slot("1"):
        pass


async def test_reader_that_takes_no_data_is_ended() -> None:
    reader = Reader("a", "1", 0.05)
    with pytest.raises(DeadlineExceeded) as ended:
        await reader.send(b"x", never)
    assert ended.value.reason == "READ_STALLED"


async def test_slow_clients_get_blocks_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of 30 KB/s takes a MiB in 35 s; smaller pieces make its progress visible."""
    reader = Reader("a", "1", 45.0)
    now = 0.0
    monkeypatch.setattr(reader, "_loop", asyncio.get_running_loop())
    sent: list[bytes] = []
    speed = 30_000.0

    class Loop:
        @staticmethod
        def time() -> float:
            return real.time() + now

    real = asyncio.get_running_loop()
    monkeypatch.setattr(reader, "_loop", Loop)

    async def write(piece: bytes) -> None:
        nonlocal now
        now += len(piece) / speed
        sent.append(piece)

    block = bytes(range(256)) * 4096
    monkeypatch.setattr("sluice_repository.rpc.reader_slots.asyncio.timeout_at", _no_limit)
    await reader.send(block, write)
    await reader.send(block, write)
    assert b"".join(sent) == block * 2
    assert [len(piece) for piece in sent] == [MIB, *[64 * 1024] * 16]
    speed = 1e9
    for _ in range(6):
        await reader.send(block, write)
    assert len(sent[-1]) == MIB


@asynccontextmanager
async def _no_limit(_when: float) -> AsyncIterator[None]:
    yield None


def test_quarter_of_store_reads_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reader_options(load_settings()).max_readers == 48
    monkeypatch.setenv("SLUICE_S3__MAX_READS", "8")
    assert reader_options(load_settings()).max_readers == 6


# ------------------------------------------------------------------ over the wire


@pytest.fixture
async def repository(tmp_path: Path) -> AsyncIterator[Repository]:
    async with running_repository(tmp_path) as running:
        yield running


@asynccontextmanager
async def idle_readers(
    repository: Repository, address: str, node_id: str, count: int
) -> AsyncIterator[list[Any]]:
    """Open clients with a connection each that read only the first message."""
    async with AsyncExitStack() as stack:
        calls = []
        for _ in range(count):
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(address, options=options)
            )
            stub = RepositoryServiceStub(channel)
            call = stub.ReadNode(pb.ReadNodeRequest(node_id=node_id), metadata=repository.metadata)
            await call.read()
            calls.append(call)
        yield calls


async def test_idle_readers_do_not_block_other_readers(repository: Repository) -> None:
    commit = await repository.store("a", CONTENT)
    request = pb.ReadNodeRequest(node_id=commit.node_id)
    options = ReaderOptions(max_readers=4, per_tenant=4, yield_seconds=0.1)
    async with (
        serving(repository.catalogue, repository.objects, options) as server,
        idle_readers(server, server.address, commit.node_id, 4),
        asyncio.timeout(30),
    ):
        for _ in range(3):
            messages = await server.read(request)
            assert sum(len(message.data) for message in messages) == len(CONTENT)


async def test_idle_reader_receives_read_stalled(repository: Repository) -> None:
    commit = await repository.store("a", CONTENT)
    options = ReaderOptions(stall_seconds=0.2)
    async with (
        serving(repository.catalogue, repository.objects, options) as server,
        idle_readers(server, server.address, commit.node_id, 1) as (call,),
        asyncio.timeout(30),
    ):
        await asyncio.sleep(1.0)  # five times the stall limit, without a read
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await _read_on(call)
    error = from_rpc_error(ended.value)
    assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "READ_STALLED")
    assert error.retry_after_seconds is not None


async def test_reader_with_pauses_receives_everything(repository: Repository) -> None:
    commit = await repository.store("a", CONTENT)
    options = ReaderOptions(stall_seconds=2.0)
    async with (
        serving(repository.catalogue, repository.objects, options) as server,
        idle_readers(server, server.address, commit.node_id, 1) as (call,),
        asyncio.timeout(60),
    ):
        got = MIB
        while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            got += len(message.data)
            await asyncio.sleep(0.3)  # in total longer than the stall limit
    assert got == len(CONTENT)


async def _read_on(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
        pass
