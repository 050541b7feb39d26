"""Places for readers: a fair share each, and none for who does not read."""

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
from sluice_repository.rpc.reader_slots import Reader, ReaderOptions, Readers
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
    """A reader whose client takes nothing, and how it ended."""

    def __init__(self, readers: Readers, tenant: str, connection: str) -> None:
        self.has_place = asyncio.Event()
        self._readers, self._tenant, self._connection = readers, tenant, connection
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> str:
        async with self._readers.place(self._tenant, self._connection) as reader:
            self.has_place.set()
            try:
                await reader.send(b"x", never)
            except DeadlineExceeded as error:
                return error.reason
        return ""


@asynccontextmanager
async def stalled(readers: Readers, *who: tuple[str, str]) -> AsyncIterator[list[Stalled]]:
    all_of_them = [Stalled(readers, *one) for one in who]
    for one in all_of_them:
        await one.has_place.wait()
    try:
        yield all_of_them
    finally:
        for one in all_of_them:
            one.task.cancel()
        await asyncio.gather(*(one.task for one in all_of_them), return_exceptions=True)


async def test_a_stalled_reader_makes_room_for_another() -> None:
    readers = Readers(replace(QUICK, wait_seconds=20.0))
    crowd = [("a", "1"), ("a", "1"), ("a", "2"), ("b", "3")]
    async with stalled(readers, *crowd) as held, readers.place("c", "4"):
        done, _ = await asyncio.wait([one.task for one in held], return_when="FIRST_COMPLETED")
        assert {task.result() for task in done} == {"READ_STALLED"}
        assert done <= {held[0].task, held[1].task}  # of the connection that has most


async def test_a_tenant_at_its_bound_ends_its_own_readers() -> None:
    readers = Readers(replace(QUICK, wait_seconds=20.0))
    crowd = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4")]
    async with stalled(readers, *crowd) as held, readers.place("a", "5"):
        assert not held[3].task.done()


async def test_readers_that_read_keep_their_places() -> None:
    """Places of clients that take their data are not for others: those wait, and are refused."""
    readers = Readers(QUICK)
    async with AsyncExitStack() as stack:
        for connection in ("1", "2", "3"):
            await stack.enter_async_context(readers.place("a", connection))
        with pytest.raises(ResourceExhausted) as refused:
            async with readers.place("a", "4"):
                pytest.fail("there was no place")
        assert refused.value.reason == "READERS_BUSY"
        assert refused.value.retry_after_seconds
        async with readers.place("b", "4"):
            pass


async def test_a_connection_has_a_bound_of_its_own() -> None:
    readers = Readers(QUICK)
    async with readers.calling("1"), readers.calling("1"):
        with pytest.raises(ResourceExhausted, match="READERS_BUSY"):
            async with readers.calling("1"):
                pytest.fail("there was no place")
        async with readers.calling("2"):
            pass
    async with readers.calling("1"):
        pass


async def test_a_reader_that_takes_nothing_is_ended() -> None:
    reader = Reader("a", "1", 0.05)
    with pytest.raises(DeadlineExceeded) as ended:
        await reader.send(b"x", never)
    assert ended.value.reason == "READ_STALLED"


async def test_blocks_go_in_pieces_to_slow_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of 30 KB/s takes a MiB in 35 s: in smaller pieces its progress can be seen."""
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


def test_our_own_reads_keep_a_quarter_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
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
    """Clients with a connection each that take the first message and no more."""
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


async def test_idle_readers_do_not_keep_others_from_reading(repository: Repository) -> None:
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


async def test_an_idle_reader_learns_that_it_was_ended(repository: Repository) -> None:
    commit = await repository.store("a", CONTENT)
    options = ReaderOptions(stall_seconds=0.2)
    async with (
        serving(repository.catalogue, repository.objects, options) as server,
        idle_readers(server, server.address, commit.node_id, 1) as (call,),
        asyncio.timeout(30),
    ):
        await asyncio.sleep(1.0)  # the client does nothing, for five times as long as it may
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await _read_on(call)
    error = from_rpc_error(ended.value)
    assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "READ_STALLED")
    assert error.retry_after_seconds is not None


async def test_a_reader_with_pauses_gets_everything(repository: Repository) -> None:
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
            await asyncio.sleep(0.3)  # in all longer than it may stall
    assert got == len(CONTENT)


async def _read_on(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
        pass
