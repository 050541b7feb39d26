"""Several intake and repository processes on one set of backends, checked by the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from sluice.repository.v1 import repository_pb2
from support.deployments import Services
from support.oracle import ObservedUpload, Oracle, published_by
from support.oracle.judge import Resend
from support.processes import ServiceProcess
from support.recorder import Recorder
from support.wire import CHANNEL_OPTIONS, Chunk, WireClient

DRIVE = "wire"
QUICK: Mapping[str, str] = {
    # Take-over waits for a dead process's leases: shorter leases only shorten the test.
    "SLUICE_QUEUE__LEASE_SECONDS": "6",
    "SLUICE_QUEUE__HEARTBEAT_SECONDS": "2",
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "1",
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """A running deployment. `settings` are those of all its processes.

        async with fleet(services, folder, intakes=2, repositories=2) as here:
            ...                                   # observed clients call here.address
            await here.judge()

    `address` is a balancer for all intakes: it uses the first that answers, like a gRPC client
    with several addresses. Each of `recorders` is in front of one intake.
    """

    services: Services
    settings: Mapping[str, str]
    intakes: Sequence[ServiceProcess]
    repositories: Sequence[ServiceProcess]
    balancer: Recorder
    recorders: Sequence[Recorder]
    wire: WireClient
    """Calls `balancer` and any repository."""
    oracle: Oracle

    @property
    def address(self) -> str:
        return self.balancer.address

    @property
    def acknowledged(self) -> int:
        """Number of acknowledged chunks of all uploads."""
        return sum(len(upload.acknowledged) for upload in self.oracle.observations.uploads.values())

    async def acknowledges(self, chunks: int, seconds: float = 60) -> None:
        """Wait until `chunks` chunks are acknowledged."""
        await until(lambda: self.acknowledged >= chunks, seconds, f"{chunks} chunks acknowledged")

    async def judge(self, resend: Resend | None = None, *, may_lose: bool = False) -> None:
        """Complete every upload (`Oracle.settle`), then check everything (`Oracle.check`)."""
        await self.oracle.settle(self.wire, resend)
        published = published_by(self.services)
        await self.oracle.check(self.wire, self.services, published, may_lose=may_lose)


@asynccontextmanager
async def fleet(
    services: Services,
    folder: Path,
    settings: Mapping[str, str] | None = None,
    *,
    intakes: int = 1,
    repositories: int = 1,
) -> AsyncIterator[Fleet]:
    """Start the processes, create the drive, and stop the processes at the end."""
    common = {**services.settings, "SLUICE_DATA_DIR": str(folder), **QUICK, **(settings or {})}
    oracle = Oracle()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        back = [ServiceProcess("sluice_repository", folder, common) for _ in range(repositories)]
        common = {**common, "SLUICE_REPOSITORY_SERVER": target_of(back)}
        front = [ServiceProcess("sluice_intake", folder, common) for _ in range(intakes)]
        await enter(running(*back))
        await enter(running(*front))
        balancer = await enter(Recorder(target_of(front), oracle).serving())
        recorders = [await enter(Recorder(each.address, oracle).serving()) for each in front]
        wire = WireClient(await enter(channel_to(balancer.address)))
        wire.repository = WireClient(await enter(channel_to(target_of(back)))).repository
        await wire.repository.CreateDrive(repository_pb2.CreateDriveRequest(name=DRIVE))
        yield Fleet(services, common, front, back, balancer, recorders, wire, oracle)


@asynccontextmanager
async def running(*services: ServiceProcess) -> AsyncIterator[None]:
    """Start all services concurrently; at the end stop those that still run."""
    async with AsyncExitStack() as stack:
        for each in services:
            stack.push_async_callback(asyncio.to_thread, each.__exit__, None, None, None)
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in services))
        yield


def channel_to(target: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)


def target_of(services: Sequence[ServiceProcess]) -> str:
    """Return all addresses as one gRPC target."""
    return "ipv4:" + ",".join(each.address for each in services)


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float, what: str) -> float:
    """Wait for a condition and return the seconds that it took.

    Fails the test with `what` after `seconds`.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return clock() - began
        assert clock() - began < seconds, f"within {seconds:.0f} s it did not happen: {what}"
        await asyncio.sleep(0.05)


def resending(chunks: Sequence[Chunk]) -> Resend:
    """Return a `Resend` that gives the same chunks for every upload."""
    by_number = {chunk.number: chunk.data for chunk in chunks}

    def resend(upload: ObservedUpload, number: int) -> bytes:
        return by_number[number]

    return resend
