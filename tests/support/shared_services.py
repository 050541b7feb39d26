"""A deployment on the shared services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from redis import Redis

from sluice_backends.s3.client import open_client
from support.deployments import Deployment, run_in_thread
from support.services import (
    drop_bucket,
    drop_database,
    fresh_bucket,
    fresh_database,
    kafka,
    redis_url,
    s3,
)

# Of Redis's sixteen databases; the first is left to manual trials.
_free_numbers: Final = set(range(1, 16))


class SharedServices(Deployment):
    """A deployment with its own bucket, MySQL database and Redis database; Kafka is shared.

    The Redis database is separate because a worker takes any item of its queue: two deployments
    with one queue and two catalogues would complete each other's uploads, without their drives.
    """

    name = "shared"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        server, _, _ = redis_url().rpartition("/")
        self._number = _free_numbers.pop()
        self.redis_url = f"{server}/{self._number}"
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
            "SLUICE_S3__ENDPOINT_URL": s3().endpoint_url,
            "SLUICE_S3__ACCESS_KEY": s3().access_key,
            "SLUICE_S3__SECRET_KEY": s3().secret_key,
            "SLUICE_KAFKA__BOOTSTRAP_SERVERS": kafka().bootstrap_servers,
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


async def _listed(bucket: str, operation: str, field: str) -> list[str]:
    async with open_client(s3().options(), s3().endpoint_url) as client:
        answer = await getattr(client, operation)(Bucket=bucket)
    return [item["Key"] for item in answer.get(field, ())]
