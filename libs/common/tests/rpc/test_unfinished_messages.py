"""Bound on unfinished messages: which reads are ended, and which are not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping

import pytest

from sluice_common.rpc.sockets import ReceivedBytes
from sluice_common.rpc.unfinished_messages import TICK_SECONDS, Connection, UnfinishedMessages
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.errors import DeadlineExceeded, ResourceExhausted
from sluice_core.uploads.model import MIB
from support.virtual_time import in_virtual_time

KIB = 1024
OPTIONS = ServerOptions(
    message_seconds=60.0,
    stream_window_bytes=2 * MIB,
    unfinished_connection_bytes=32 * MIB,
    unfinished_bytes=100 * MIB,
)


class Kernel(ReceivedBytes):
    """Received bytes as set by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.received: dict[str, int] = {}

    def of(self, peers: Iterable[str]) -> Mapping[str, int]:
        return {peer: self.received[peer] for peer in peers if peer in self.received}


class Scene:
    """An `UnfinishedMessages` with connections that the test controls."""

    def __init__(self, options: ServerOptions = OPTIONS) -> None:
        self.kernel = Kernel()
        self.memory_bytes = 0
        self.watch = UnfinishedMessages(options, self.kernel, lambda: self.memory_bytes)

    def read(
        self,
        peer: str,
        max_bytes: int = 64 * KIB,
        seconds: float = 1e9,
        *,
        of_stream: bool = False,
    ) -> asyncio.Future[bytes]:
        """Start a call of this peer that waits for a message."""
        self.kernel.received.setdefault(peer, 0)
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[bytes] = loop.create_future()
        connection = self.watch.enter(peer)
        connection.pending[outcome] = connection.begin_read(max_bytes, seconds, of_stream=of_stream)
        return outcome

    async def receive(self, peer: str, size: int) -> None:
        """Receive bytes of unfinished messages."""
        self.kernel.received[peer] += size
        self.memory_bytes += size
        await ticks(2)


async def ticks(count: int) -> None:
    await asyncio.sleep(TICK_SECONDS * (count + 0.5))


def reason(outcome: asyncio.Future[bytes]) -> str | None:
    """Return the reason with which a read ended; None while it waits."""
    if not outcome.done():
        return None
    error = outcome.exception()
    assert isinstance(error, ResourceExhausted | DeadlineExceeded)
    return error.reason


@in_virtual_time
async def test_missing_first_message_is_timed_out() -> None:
    scene = Scene()
    timed, untimed = scene.read("a", seconds=60.0), scene.read("a")
    await asyncio.sleep(59.8)
    assert reason(timed) is None
    await asyncio.sleep(0.4)
    assert (reason(timed), reason(untimed)) == ("MESSAGE_STALLED", None)


@in_virtual_time
async def test_a_connection_is_ended_beyond_its_bound() -> None:
    scene = Scene()
    reads = [scene.read("a") for _ in range(40)]
    await ticks(2)
    await scene.receive("a", 32 * MIB)
    assert {reason(read) for read in reads} == {None}
    await scene.receive("a", 8 * MIB)
    assert {reason(read) for read in reads} == {"UNFINISHED_MESSAGES"}


@in_virtual_time
async def test_overhead_of_a_busy_connection_ends_nothing() -> None:
    """One read is always pending while others deliver 100 GiB in a million calls."""
    scene = Scene()
    idle, connection = scene.read("a"), scene.watch.enter("a")
    await ticks(2)
    for _ in range(10):
        connection.delivered_bytes += 10_000 * MIB
        await scene.receive("a", 10_000 * MIB * 1002 // 1000)
        for _ in range(100_000):
            scene.watch.leave(scene.watch.enter("a"))
        await scene.receive("a", 100_000 * 900)
    assert reason(idle) is None
    await scene.receive("a", 2_000 * MIB)
    assert reason(idle) == "UNFINISHED_MESSAGES"


@in_virtual_time
async def test_the_worst_connections_are_ended_beyond_the_total() -> None:
    scene = Scene()
    large = [scene.read(f"large-{n}") for n in range(4)]
    small = [scene.read(f"small-{n}") for n in range(4)]
    await ticks(2)
    for n in range(4):
        await scene.receive(f"small-{n}", 3 * MIB)
    for n in range(3):
        await scene.receive(f"large-{n}", 29 * MIB)
    assert {reason(read) for read in (*large, *small)} == {None}
    await scene.receive("large-3", 31 * MIB)
    assert [reason(read) for read in large] == [None, None, None, "UNFINISHED_MESSAGES"]
    assert {reason(read) for read in small} == {None}


@in_virtual_time
async def test_delivered_messages_do_not_count() -> None:
    """A waiting stream next to a busy one on the same connection."""
    scene = Scene()
    idle = scene.read("a", MIB)
    busy = scene.watch.enter("a")
    await ticks(2)
    for _ in range(20):
        busy.delivered_bytes += 50 * MIB
        await scene.receive("a", 50 * MIB)
    assert reason(idle) is None


@in_virtual_time
async def test_full_windows_of_waiting_streams_end_nothing() -> None:
    """On a busy server whole messages wait for the event loop while a read is pending."""
    scene = Scene()
    reads = [scene.read(f"fast-{n}", MIB, of_stream=True) for n in range(250)]
    await ticks(2)
    for n in range(250):
        scene.kernel.received[f"fast-{n}"] += 3 * MIB
    scene.memory_bytes += 250 * 3 * MIB
    await asyncio.sleep(8)
    assert {reason(read) for read in reads} == {None}
    await asyncio.sleep(4)  # nothing was delivered: these are no whole messages
    ended = [read for read in reads if reason(read) == "UNFINISHED_MESSAGES"]
    assert len(ended) == 250 - 33  # 100 MiB are left


@in_virtual_time
async def test_stream_with_message_beyond_its_window_is_ended() -> None:
    scene = Scene()
    reads = [scene.read("a", MIB, of_stream=True) for _ in range(4)]
    await ticks(2)
    await scene.receive("a", 4 * 3 * MIB + 32 * MIB)
    assert {reason(read) for read in reads} == {None}
    await scene.receive("a", 8 * MIB)
    assert {reason(read) for read in reads} == {"UNFINISHED_MESSAGES"}


@in_virtual_time
async def test_windows_of_unread_streams_are_no_unfinished_messages() -> None:
    scene = Scene()
    idle = scene.read("a", MIB)
    for _ in range(64):
        scene.watch.enter("a")
    await ticks(2)
    await scene.receive("a", 64 * 3 * MIB)
    assert reason(idle) is None


@in_virtual_time
async def test_unary_chunks_count_against_their_permits_only() -> None:
    scene = Scene()
    chunks = [scene.read("a", 32 * MIB + 64 * KIB) for _ in range(4)]
    await ticks(2)
    await scene.receive("a", 4 * 32 * MIB)
    assert {reason(chunk) for chunk in chunks} == {None}


@in_virtual_time
async def test_a_burst_before_the_first_tick_counts() -> None:
    scene = Scene()
    read = scene.read("a")
    scene.kernel.received["a"] += 40 * MIB
    await ticks(3)
    assert reason(read) == "UNFINISHED_MESSAGES"


@in_virtual_time
async def test_bytes_are_counted_without_growth_as_well() -> None:
    """Freed memory is reused without growth."""
    scene = Scene()
    read = scene.read("a")
    await ticks(2)
    scene.kernel.received["a"] += 40 * MIB
    await asyncio.sleep(1.2)
    assert reason(read) == "UNFINISHED_MESSAGES"


@in_virtual_time
async def test_bytes_before_the_baseline_do_not_count() -> None:
    """Refused calls leave bytes outside of any message, which count no longer without reads."""
    scene = Scene()
    scene.kernel.received["a"] = 0
    call = scene.watch.enter("a")
    for _ in range(5):
        outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        call.pending[outcome] = call.begin_read(MIB, 1e9, of_stream=False)
        await scene.receive("a", 20 * MIB)
        assert reason(outcome) is None
        del call.pending[outcome]
        await ticks(2)


@in_virtual_time
async def test_calls_that_ended_explain_some_bytes_at_most() -> None:
    scene = Scene()
    idle = scene.read("a", MIB)
    for _ in range(1000):
        scene.watch.leave(scene.watch.enter("a"))
    await scene.receive("a", 60 * MIB)
    assert reason(idle) is None
    await scene.receive("a", 8 * MIB)
    assert reason(idle) == "UNFINISHED_MESSAGES"


@in_virtual_time
async def test_unknown_peers_are_left_alone() -> None:
    """Unix sockets, and kernels that do not count."""
    scene = Scene()
    read = scene.read("unix:")
    del scene.kernel.received["unix:"]
    scene.memory_bytes += 500 * MIB
    await ticks(3)
    assert reason(read) is None


@in_virtual_time
async def test_the_watch_rests_without_calls() -> None:
    scene = Scene()
    connection: Connection = scene.watch.enter("a")
    scene.watch.leave(connection)
    await ticks(3)
    assert scene.watch._timer is None


def test_the_kernel_counts_what_a_peer_has_sent() -> None:
    counting = ReceivedBytes()
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, (host, port) = server.accept()
    peer = f"ipv4:{host}:{port}"
    with client, accepted:
        assert counting.of([peer, "unix:", "ipv4:192.0.2.1:9"]) == {peer: 0}
        for size, total in ((1000, 1000), (2000, 3000)):
            client.sendall(bytes(size))
            accepted.recv(size, socket.MSG_WAITALL)
            assert counting.of([peer]) == {peer: total}
    assert counting.of([peer]) == {}


@pytest.mark.parametrize("peer", ["", "unix:", "unix:/run/x.sock", "ipv4:host", "inproc"])
def test_a_peer_without_an_address_has_no_count(peer: str) -> None:
    assert ReceivedBytes().of([peer]) == {}
