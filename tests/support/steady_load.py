"""Uploads and photos at a steady rate, and how long chunks wait for their acknowledgement."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

import aiohttp

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2 as pb
from sluice_client import Client, UploadResult
from support import s3_server
from support.cluster import Cluster
from support.deployments import run_in_thread
from support.fleet import channel_to
from support.oracle import Content, Observations, Oracle, published_by
from support.photo_user import Answer, PhotoUser, SentPhoto, open_session, picture
from support.recorder import Recorder
from support.waiting import until
from support.wire import WireClient

DRIVE: Final = "load"
KIB: Final = 1024
CHUNK_BYTES: Final = 64 * KIB
SMALL_BYTES: Final = 1280 * KIB
"""More than travels inside of InitiateUpload."""
LARGE_BYTES: Final = 6 * 1024 * KIB
"""Two parts."""
PART_BYTES: Final = 5 * 1024 * KIB
_LARGE_EVERY: Final = 8
AT_ONCE: Final = 12
SENDERS: Final = 4
"""Clients, each with a connection of its own."""
_ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class AckTimes(Observations):
    """Observations that also time each chunk, from its last byte to its acknowledgement.

    A chunk that is sent again counts from the first time: what a client loses when its pod goes is
    in the figure.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._since: dict[tuple[str, int], float] = {}

    def sent(self, upload_id: str, number: int, content: Content) -> None:
        super().sent(upload_id, number, content)
        self._since.setdefault((upload_id, number), time.monotonic())

    def accepted(
        self, upload_id: str, said: pb.Accepted, content: Content | None, *, force: bool
    ) -> None:
        super().accepted(upload_id, said, content, force=force)
        self.waits.append(time.monotonic() - self._since[upload_id, said.number])


class TimingOracle(Oracle):
    """The oracle, with the times of all acknowledgements."""

    def __init__(self) -> None:
        super().__init__()
        self.observations: AckTimes = AckTimes()


class PanelUser(PhotoUser):
    """A user who repeats requests as the panel does (`web/src/lib/api/repeat.ts`), and no more."""

    TRIES: Final = 5
    FIRST_SECONDS: Final = 0.5
    LONGEST_SECONDS: Final = 15.0

    def __init__(self, http: aiohttp.ClientSession, gateways: Callable[[], Sequence[str]]) -> None:
        super().__init__(http, gateways)
        self.waits: list[float] = []
        """Seconds of each request, its repeats included."""
        self._dice = random.Random(5)

    @property
    def url(self) -> str:
        """Where STOMP is spoken."""
        return f"{self.base.replace('http', 'ws', 1)}/ws"

    async def answer(self, method: str, path: str, body: Any = None, *, key: str = "") -> Answer:
        begun = time.monotonic()
        for attempt in range(self.TRIES):
            asked = 0.0
            try:
                answer = await self.once(method, path, body, key=key)
            except (aiohttp.ClientError, ConnectionError) as error:
                what: object = error
            else:
                if answer.status not in (429, 502, 503, 504):
                    self.waits.append(time.monotonic() - begun)
                    return answer
                what, asked = answer, float(answer.headers.get("Retry-After", 0))
            self.repeats += 1
            ceiling = min(self.LONGEST_SECONDS, self.FIRST_SECONDS * 2**attempt)
            await asyncio.sleep(asked + self._dice.random() * ceiling)
        raise AssertionError(f"{method} {path} has no answer after {self.TRIES} tries: {what}")


def p99(waits: Sequence[float]) -> float:
    """Return the 99th percentile by nearest rank."""
    return sorted(waits)[ceil(0.99 * len(waits)) - 1]


class OfDrive:
    """The backends, as the oracle counts them: without the objects of photos."""

    def __init__(self, cluster: Cluster) -> None:
        self._backends = cluster.backends

    def leftovers(self) -> list[str]:
        return self._backends.leftovers()

    def count_objects(self) -> int:
        keys = run_in_thread(s3_server.objects_of(self._backends.bucket))
        return sum(f"/{DRIVE}/" in key for key in keys)


@dataclass
class UploadLoad:
    """Uploads by the SDK, begun at a steady rate whether or not the last ones have ended."""

    cluster: Cluster
    oracle: TimingOracle
    clients: Sequence[Client]
    wire: WireClient
    """Its uploads are observed too."""
    results: list[UploadResult] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    """Seconds of each upload from its begin to its visible node."""

    @property
    def waits(self) -> list[float]:
        return self.oracle.observations.waits

    async def acknowledges(self, chunks: int) -> list[float]:
        """Let the load run for so many chunks; return their waits."""
        before = len(self.waits)
        await until(lambda: len(self.waits) >= before + chunks, 120, f"{chunks} acknowledgements")
        return self.waits[before:]

    async def upload(self, number: int) -> None:
        size = LARGE_BYTES if number % _LARGE_EVERY == 0 else SMALL_BYTES
        content = random.Random(number).randbytes(size)
        begun = time.monotonic()
        self.results.append(
            await self.clients[number % len(self.clients)].upload(
                content, drive=DRIVE, path=f"file{number}", chunk_size=CHUNK_BYTES
            )
        )
        self.took.append(time.monotonic() - begun)

    async def judge(self) -> None:
        """Check every byte, node and event of the uploads, which have ended."""
        await self.oracle.settle(self.wire)
        published = published_by(self.cluster.backends)
        await self.oracle.check(self.wire, OfDrive(self.cluster), published)


@asynccontextmanager
async def upload_load(cluster: Cluster) -> AsyncIterator[UploadLoad]:
    """Connect the clients, each behind an observing proxy, and create the drive."""
    oracle = TimingOracle()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        intake = cluster.services["intake"].address
        recorders = [await enter(Recorder(intake, oracle).serving()) for _ in range(SENDERS)]
        clients = [await enter(Client(recorder.address)) for recorder in recorders]
        wire = WireClient(await enter(channel_to(recorders[0].address)))
        api = cluster.services["repository-api"].address
        wire.repository = WireClient(await enter(channel_to(api))).repository
        request = repository_pb2.CreateDriveRequest(name=DRIVE)
        await wire.repository.CreateDrive(request)
        yield UploadLoad(cluster, oracle, clients, wire)


@dataclass
class PhotoLoad:
    """Photos of one large job that clients follow, and of small jobs beside it."""

    user: PanelUser
    followed: list[SentPhoto]
    items: Mapping[str, Any]
    sent: list[SentPhoto] = field(default_factory=list)

    @property
    def job_id(self) -> str:
        return self.followed[0].job_id

    async def send(self, number: int) -> None:
        """Send the next photo of the followed job; every fourth time a small job as well."""
        photo = self.followed[number]
        await self._put(photo, self.items[photo.photo_id])
        if number % 4 == 0:
            (single,), (item,) = await self.user.create([picture(10_000 + number)])
            await self._put(single, item)

    async def _put(self, photo: SentPhoto, item: Any) -> None:
        await self.user.put(photo, item)
        await self.user.finalize(photo)
        self.sent.append(photo)

    async def completed(self, seconds: float) -> float:
        """Wait until every sent photo is COMPLETED; return the seconds."""
        jobs = {photo.job_id for photo in self.sent}
        sent = {photo.photo_id for photo in self.sent}

        async def all_are() -> bool:
            found: dict[str, str] = {}
            for job_id in jobs:
                found |= await self.user.statuses(job_id)
            ended = {photo_id: status for photo_id, status in found.items() if photo_id in sent}
            assert set(ended.values()) & _ENDED <= {"COMPLETED"}, ended
            return set(ended.values()) == {"COMPLETED"}

        return await until(all_are, seconds, f"{len(sent)} photos are COMPLETED")


@asynccontextmanager
async def photo_load(cluster: Cluster, count: int) -> AsyncIterator[PhotoLoad]:
    """Register a user with a job of `count` photos, none of them sent yet."""
    async with open_session() as http:
        user = PanelUser(http, lambda: [f"http://{cluster.services['gateway'].address}"])
        await user.register()
        photos, items = await user.create([picture(number) for number in range(count)])
        by_id = {photo.photo_id: item for photo, item in zip(photos, items, strict=True)}
        yield PhotoLoad(user, photos, by_id)


async def steadily(
    seconds: float, work: Callable[[int], Awaitable[None]], stop: asyncio.Event
) -> None:
    """Begin a piece of work every `seconds` until `stop`; wait for all of them.

    The first failure ends all. A machine that does not keep up is not buried: of each kind of work
    at most `AT_ONCE` pieces are in progress.
    """
    room = asyncio.Semaphore(AT_ONCE)
    clock = asyncio.get_running_loop().time
    begun = clock()
    async with asyncio.TaskGroup() as group:
        number = 0
        while not stop.is_set():
            await room.acquire()
            group.create_task(_run(work, number)).add_done_callback(lambda _: room.release())
            number += 1
            left = begun + number * seconds - clock()
            if left > 0:
                try:
                    async with asyncio.timeout(left):
                        await stop.wait()
                except TimeoutError:
                    pass


async def _run(work: Callable[[int], Awaitable[None]], number: int) -> None:
    await work(number)
