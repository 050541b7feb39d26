"""A deployment on the shared services."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from redis import Redis

from sluice_backends.s3.client import open_client
from support import services
from support.deployments import Deployment, Services, deployment, run_in_thread
from support.services import (
    drop_bucket,
    drop_database,
    fresh_bucket,
    fresh_database,
    kafka,
    redis_url,
    s3,
)

_WORKERS: Final = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
# Of Redis's sixteen databases; the first is left to manual trials. Test processes share the rest.
_free_numbers: Final = set(range(1 + _WORKER, 16, _WORKERS))


class SharedServices(Deployment):
    """A deployment with its own bucket, MySQL database and Redis database; Kafka is shared.

    The Redis database is separate because a worker takes any item of its queue: two deployments
    with one queue and two catalogues would complete each other's uploads, without their drives.
    """

    name = "shared"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._number = _free_numbers.pop()
        self.redis_url = urlsplit(redis_url())._replace(path=f"/{self._number}").geturl()
        with self.redis() as client:
            client.flushdb()
        self.bucket = run_in_thread(fresh_bucket())
        self.mysql_url = run_in_thread(fresh_database())

    @property
    def settings(self) -> Mapping[str, str]:
        return {
            "SLUICE_COORDINATION": "redis",
            "SLUICE_CHUNK_TRANSPORT": "redis",
            "SLUICE_OBJECTS": "s3",
            "SLUICE_EVENTS": "kafka",
            "SLUICE_CATALOGUE": "mysql",
            "SLUICE_BUCKET": self.bucket,
            "SLUICE_REDIS__URL": self.redis_url,
            **s3().settings(),
            **kafka().settings,
            "SLUICE_KAFKA__PARTITIONS": "3",
            "SLUICE_MYSQL__URL": self.mysql_url,
        }

    def leftovers(self) -> list[str]:
        with self.redis() as client:
            keys = [bytes(key).decode() for key in client.scan_iter(count=1000)]
            left = [key for key in keys if ":chunks:" in key]
            # Staged keys expire by their time to live (rule 1); without one they never do.
            left += [key for key in keys if ":staging:" in key and client.ttl(key) == -1]
        return [*left, *run_in_thread(_listed(self.bucket, "list_multipart_uploads", "Uploads"))]

    def count_objects(self) -> int:
        return len(run_in_thread(_listed(self.bucket, "list_objects_v2", "Contents")))

    def remove(self) -> None:
        """Remove what this deployment created on the services, which keep running."""
        with self.redis() as client:
            client.flushdb()
        _free_numbers.add(self._number)
        run_in_thread(drop_bucket(self.bucket))
        run_in_thread(drop_database(self.mysql_url))

    @contextmanager
    def redis(self) -> Iterator[Redis]:
        client = Redis.from_url(self.redis_url)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def shared_services(folder: Path) -> Iterator[SharedServices]:
    """Open a deployment on the shared services and clean up afterwards."""
    deployment = SharedServices(folder)
    try:
        yield deployment
    finally:
        deployment.remove()


@contextmanager
def end_to_end_deployment(kind: str, folder: Path) -> Iterator[Deployment]:
    """Open the backends of this kind; those of a run with TLS are the shared services."""
    if kind == Services.name and services.use_tls():
        opened: AbstractContextManager[Deployment] = shared_services(folder)
    else:
        opened = deployment(kind, folder)
    with opened as backends:
        yield backends


async def _listed(bucket: str, operation: str, field: str) -> list[str]:
    async with open_client(s3().options()) as client:
        answer = await getattr(client, operation)(Bucket=bucket)
    return [item["Key"] for item in answer.get(field, ())]
