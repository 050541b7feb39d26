"""Store, Redis, Kafka and MySQL down beneath the gateway: what answers, and that nothing is lost.

The table is in docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from support import mysql_server
from support.gateway_stages import ServicesStage, services_stage
from support.http_faults import HttpFaults
from support.kafka_broker import KafkaBroker
from support.network_faults import Faults
from support.photo_user import Answer, PhotoUser, SentPhoto, photo_user, picture
from support.proxy import FaultProxy
from support.redis_server import RedisServer
from support.separate_services import s3_by, s3_line
from support.waiting import until

BETWEEN_PROBES_SECONDS: Final = 0.3
LARGE_BYTES: Final = 5 * 1024 * 1024 + 1000
COMPLETED_SECONDS: Final = 120.0
STORE_REASONS: Final = ("STORE_UNAVAILABLE", "STORE_CIRCUIT_OPEN")


@dataclass(frozen=True, slots=True)
class Backends:
    """What can be taken down."""

    stage: ServicesStage
    redis: RedisServer
    broker: KafkaBroker
    line: FaultProxy
    """Between the services, the user and the store."""

    def outage(self, name: str) -> AbstractAsyncContextManager[None]:
        """Take a backend down, or let it hang, while the block runs."""
        outages: dict[str, Callable[[], AbstractAsyncContextManager[None]]] = {
            "store": self._store_down,
            "store hangs": self._store_hangs,
            "redis": self._redis_down,
            "redis hangs": self._redis_hangs,
            "kafka": self._kafka_down,
            "kafka hangs": self._kafka_hangs,
            "mysql": self._mysql_down,
        }
        return outages[name]()

    @asynccontextmanager
    async def _store_down(self) -> AsyncIterator[None]:
        self.line.refuse()
        self.line.reset()
        yield
        self.line.heal()

    @asynccontextmanager
    async def _store_hangs(self) -> AsyncIterator[None]:
        self.line.both(Faults(stalled=True))
        yield
        self.line.heal()
        self.line.reset()

    @asynccontextmanager
    async def _redis_down(self) -> AsyncIterator[None]:
        self.redis.kill()
        yield
        await asyncio.to_thread(self.redis.start)

    @asynccontextmanager
    async def _redis_hangs(self) -> AsyncIterator[None]:
        self.redis.pause()
        try:
            yield
        finally:
            self.redis.resume()

    @asynccontextmanager
    async def _kafka_down(self) -> AsyncIterator[None]:
        self.broker.kill()
        yield
        await self.broker.start()

    @asynccontextmanager
    async def _kafka_hangs(self) -> AsyncIterator[None]:
        self.broker.pause()
        try:
            yield
        finally:
            self.broker.resume()

    @asynccontextmanager
    async def _mysql_down(self) -> AsyncIterator[None]:
        server = mysql_server.shared_server()
        server.kill()
        try:
            yield
        finally:
            await asyncio.to_thread(server.start)


@dataclass(slots=True)
class Batch:
    """A job from before the outage: photos that are put, not put, and sent in parts."""

    photos: Sequence[SentPhoto]
    items: Sequence[Any]

    @property
    def job(self) -> str:
        return f"/queries/upload-jobs/{self.photos[0].job_id}"

    def command(self, photo: int, name: str) -> str:
        return f"/commands/upload/{self.photos[photo].photo_id}/{name}"


PUT, UNSENT, IN_PARTS, DOOMED = range(4)


async def answered(user: PhotoUser, method: str, path: str, body: Any = None) -> Answer:
    """Return the answer, which each request has within its deadline."""
    answer = await user.once(method, path, body)
    if answer.status in (429, 503, 504):
        assert int(answer.headers["Retry-After"]) >= 1, answer
        assert answer.reason, answer
    return answer


async def goes_on(user: PhotoUser, method: str, path: str, body: Any = None) -> Any:
    answer = await answered(user, method, path, body)
    assert answer.status < 300, (method, path, answer)
    return answer.body


async def is_refused(user: PhotoUser, reasons: Sequence[str], method: str, path: str) -> None:
    body = NEW_JOB if path == "/commands/upload-jobs" else None
    answer = await answered(user, method, path, body)
    assert (answer.status, answer.reason in reasons) == (503, True), (method, path, answer)


NEW_JOB: Final = {"files": [{"filename": "a.jpg", "mimeType": "image/jpeg", "bytes": 1}]}


async def without_store(user: PhotoUser, batch: Batch) -> None:
    await is_refused(user, STORE_REASONS, "POST", batch.command(PUT, "finalize"))
    await is_refused(user, STORE_REASONS, "POST", batch.command(IN_PARTS, "parts"))
    await goes_on(user, "POST", batch.command(UNSENT, "renew"))
    await goes_on(user, "GET", batch.job)
    await goes_on(user, "GET", "/queries/photos")


async def without_redis(user: PhotoUser, batch: Batch) -> None:
    await is_refused(user, ["REDIS_UNAVAILABLE"], "GET", f"{batch.job}/events")
    await goes_on(user, "POST", batch.command(UNSENT, "renew"))
    await goes_on(user, "POST", batch.command(IN_PARTS, "parts"))
    report = {"photoId": batch.photos[UNSENT].photo_id, "bytesSent": 1, "bytesTotal": 2}
    await goes_on(user, "POST", "/commands/upload/progress", report)
    await goes_on(user, "GET", batch.job)
    await goes_on(user, "POST", "/api/auth/login", user.credentials)


async def without_kafka(user: PhotoUser, batch: Batch) -> None:
    await goes_on(user, "POST", batch.command(PUT, "finalize"))
    await goes_on(user, "POST", batch.command(IN_PARTS, "parts"))
    await goes_on(user, "POST", batch.command(UNSENT, "renew"))
    statuses = await user.statuses(batch.photos[PUT].job_id)
    assert statuses[batch.photos[PUT].photo_id] == "PROCESSING"


async def without_mysql(user: PhotoUser, batch: Batch) -> None:
    reasons = ["CATALOGUE_UNAVAILABLE"]
    await is_refused(user, reasons, "POST", "/commands/upload-jobs")
    await is_refused(user, reasons, "POST", batch.command(PUT, "finalize"))
    await is_refused(user, reasons, "GET", batch.job)
    await is_refused(user, reasons, "GET", f"{batch.job}/events")
    # Bytes go to the store by URLs that were signed before.
    await user.put(batch.photos[PUT], batch.items[PUT])
    await goes_on(user, "GET", "/healthz")
    await goes_on(user, "GET", "/.well-known/jwks.json")


PROBES: Final[dict[str, Callable[[PhotoUser, Batch], Awaitable[None]]]] = {
    "store": without_store,
    "redis": without_redis,
    "kafka": without_kafka,
    "mysql": without_mysql,
}
CHOSEN: Final = os.environ.get("SLUICE_GATEWAY_OUTAGES", "store,redis,kafka,mysql").split(",")
SHORT: Final = tuple(CHOSEN)
LONG: Final = (*SHORT, *(f"{name} hangs" for name in SHORT if name != "mysql"))
# The probes of a minute log in more often than a person. The limits stay on, so that they are
# counted while Redis is down.
MANY_GUESSES: Final = {
    f"SLUICE_GATEWAY__{whose}_GUESSES_PER_MINUTE": "100000"
    for whose in ("PAIR", "ACCOUNT", "ADDRESS")
}


@asynccontextmanager
async def backends(folder: Path) -> AsyncIterator[Backends]:
    """Run the services; with a broker of their own, because that of other tests goes on."""
    (folder / "kafka").mkdir()
    broker = KafkaBroker(folder / "kafka")
    try:
        if "kafka" in SHORT:
            await broker.start()
        with RedisServer() as redis:
            async with s3_line(HttpFaults()) as line:
                more = {**s3_by(line), **MANY_GUESSES}
                if "kafka" in SHORT:
                    more["SLUICE_KAFKA__BOOTSTRAP_SERVERS"] = broker.options.bootstrap_servers
                async with services_stage(folder, redis, **more) as stage:
                    yield Backends(stage, redis, broker, line)
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("names", "seconds"),
    [
        pytest.param(SHORT, 0, id="for a moment"),
        pytest.param(("store hangs",), 0, id="a store that hangs"),
        pytest.param(
            LONG, 60, id="for a minute", marks=[pytest.mark.slow_fault, pytest.mark.timeout(1800)]
        ),
    ],
)
async def test_outage_of_a_backend_is_answered_and_loses_nothing(
    tmp_path: Path, names: Sequence[str], seconds: float
) -> None:
    """Each request is answered within its deadline; what is 503 names a delay; afterwards every
    photo of before and during the outage is completed."""
    sent: list[SentPhoto] = []
    async with backends(tmp_path) as all_, photo_user(lambda: all_.stage.gateways) as user:
        for number, name in enumerate(names):
            contents = [picture(10 * number + each) for each in range(4)]
            contents[IN_PARTS] = picture(10 * number + IN_PARTS, LARGE_BYTES)
            batch = Batch(*await user.create(contents))
            sent += batch.photos
            await user.put(batch.photos[PUT], batch.items[PUT])
            kind = name.partition(" ")[0]
            # The probes cannot replace a token that ends: nobody logs in without MySQL.
            await user.log_in()
            async with all_.outage(name):
                begun = time.monotonic()
                probed = 0
                while probed == 0 or time.monotonic() < begun + seconds:
                    await PROBES[kind](user, batch)
                    probed += 1
                    await asyncio.sleep(BETWEEN_PROBES_SECONDS)
                if kind != "mysql":
                    await user.cancel(batch.photos[DOOMED])
                    created, items = await user.create([picture(1000 + number)])
                    sent += created
            back = time.monotonic()
            if kind == "mysql":
                await user.cancel(batch.photos[DOOMED])
                created, items = await user.create([picture(1000 + number)])
                sent += created
            await all_sent(user, batch, created[0], items[0])
            print(  # noqa: T201 - figures of the run
                f"{name}: {probed} rounds of probes, whole {time.monotonic() - back:.1f} s after"
            )
        await all_.stage.settled(user, sent)
        await all_.stage.judge(user, sent)


async def all_sent(user: PhotoUser, batch: Batch, later: SentPhoto, item: Any) -> None:
    """Send and finalize what is left, and wait until all of it is completed."""
    await user.put(batch.photos[UNSENT], batch.items[UNSENT])
    await user.put(batch.photos[IN_PARTS], batch.items[IN_PARTS])
    await user.put(later, item)
    whole = [batch.photos[PUT], batch.photos[UNSENT], batch.photos[IN_PARTS], later]
    for photo in whole:
        await user.finalize(photo)

    async def completed() -> bool:
        found = {**await user.statuses(later.job_id), **await user.statuses(whole[0].job_id)}
        return all(found[photo.photo_id] == "COMPLETED" for photo in whole)

    await until(completed, COMPLETED_SECONDS, "all photos are completed")
