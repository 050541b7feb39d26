"""Deployments of the end-to-end tests: embedded adapters, or Redis, S3, Kafka and MySQL."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from support import kafka, mysql_server, s3_server
from support.redis_server import RedisServer
from support.server import StandaloneServer

SWEEP_SECONDS = 30.0

T = TypeVar("T")


def run_in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in its own thread, because the caller may run on an event loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


class Deployment(ABC):
    """Backends for one server at a time, initially empty.

    Gives the server's settings and finds what the server leaves behind in the backends.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """Environment variables that select these backends."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """Return what belongs to uploads in flight: chunks and multiparts."""

    @abstractmethod
    def count_objects(self) -> int:
        """Return the number of objects in the store."""

    def server(self, settings: Mapping[str, str] | None = None) -> StandaloneServer:
        """Return a server on these backends that is not started yet."""
        return StandaloneServer(self.data_dir, {**self.settings, **(settings or {})})

    @contextmanager
    def serving(self, settings: Mapping[str, str] | None = None) -> Iterator[StandaloneServer]:
        """Run a server inside the block; stop it however the test ends."""
        server = self.server(settings)
        server.start()
        try:
            yield server
        finally:
            server.close()

    def assert_nothing_in_flight(self) -> None:
        """Assert that within a few sweeps nothing belongs to an upload in flight."""
        deadline = time.monotonic() + SWEEP_SECONDS
        while (left := self.leftovers()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert left == []

    def assert_nothing_is_left(self, objects: int) -> None:
        """Assert the same, and that the store has exactly this number of objects."""
        self.assert_nothing_in_flight()
        assert self.count_objects() == objects


class Embedded(Deployment):
    """All data in the data directory."""

    name = "embedded"

    @property
    def settings(self) -> Mapping[str, str]:
        return {}

    def leftovers(self) -> list[str]:
        chunks = [path for path in (self.data_dir / "chunks").rglob("*") if path.is_file()]
        objects = (self.data_dir / "objects").rglob("*")
        multiparts = [path for path in objects if "multipart" in path.parts[-2:] and path.is_dir()]
        return [str(path.relative_to(self.data_dir)) for path in [*chunks, *multiparts]]

    def count_objects(self) -> int:
        return len(list((self.data_dir / "objects").rglob("manifest*.json")))


class Services(Deployment):
    """Its own Redis, bucket and database. Kafka is shared: its topics have fixed names."""

    name = "services"

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        super().__init__(folder)
        self.redis = redis
        self.bucket = run_in_thread(s3_server.new_bucket())
        self.mysql_url = mysql_server.shared_server().create_database()

    @property
    def settings(self) -> Mapping[str, str]:
        return {
            "SLUICE_COORDINATION": "redis",
            "SLUICE_CHUNK_TRANSPORT": "redis",
            "SLUICE_OBJECTS": "s3",
            "SLUICE_EVENTS": "kafka",
            "SLUICE_CATALOGUE": "mysql",
            "SLUICE_BUCKET": self.bucket,
            "SLUICE_REDIS__URL": self.redis.url,
            **s3_server.s3_account().settings(),
            **kafka.shared_broker().settings,
            "SLUICE_KAFKA__PARTITIONS": "3",
            "SLUICE_MYSQL__URL": self.mysql_url,
        }

    def leftovers(self) -> list[str]:
        chunks = [key for key in self.redis.all_keys() if ":chunks:" in key]
        return [
            *chunks,
            *self._endless_staging(),
            *run_in_thread(s3_server.multiparts_of(self.bucket)),
        ]

    def _endless_staging(self) -> list[str]:
        """Return staged keys without a time to live: they would never expire (rule 1)."""
        staged = [key for key in self.redis.all_keys() if ":staging:" in key]
        with self.redis.client() as client:
            return [key for key in staged if client.ttl(key) == -1]

    def count_objects(self) -> int:
        return len(run_in_thread(s3_server.objects_of(self.bucket)))


KINDS = (Embedded.name, Services.name)


@contextmanager
def deployment(kind: str, folder: Path) -> Iterator[Deployment]:
    """Open the backends of this kind; close afterwards what the process's tests do not share."""
    if kind == Embedded.name:
        yield Embedded(folder)
        return
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        yield Services(folder, redis)
