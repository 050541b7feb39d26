"""The services that `make services-up` or containers run, for the tests that share them.

Where one is missing the test is skipped, and fails in CI (SLUICE_REQUIRE_SERVICES=1).
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from redis import Redis
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sluice_common.objects.s3.client import open_client
from support.deployments import Deployment
from support.s3_server import S3Account

ROOT: Final = Path(__file__).resolve().parents[2]
# Of the sixteen that every Redis has: a person who tries Sluice out by hand uses the first.
TEST_DATABASE: Final = 15


@dataclass(frozen=True, slots=True)
class KafkaFacts:
    """`kind`: `apache`, or `mock` where Java is missing."""

    bootstrap_servers: str
    kind: str


def redis_url() -> str:
    return _facts("redis")["url"]


def mysql_url() -> str:
    """Of a database that is shared; see `fresh_database`."""
    return _facts("mysql")["url"]


def kafka() -> KafkaFacts:
    facts = _facts("kafka")
    return KafkaFacts(facts["bootstrap_servers"], facts["kind"])


def s3() -> S3Account:
    facts = _facts("s3")
    return S3Account(facts["endpoint_url"], facts["access_key"], facts["secret_key"], facts["kind"])


async def fresh_database() -> str:
    """The URL of a new, empty database."""
    shared = make_url(mysql_url())
    name = f"test_{secrets.token_hex(6)}"
    engine = create_async_engine(shared)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"CREATE DATABASE {name} CHARACTER SET utf8mb4"))
    finally:
        await engine.dispose()
    return shared.set(database=name).render_as_string(hide_password=False)


async def drop_database(url: str) -> None:
    """Remove what `fresh_database` made."""
    engine = create_async_engine(mysql_url())
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {make_url(url).database}"))
    finally:
        await engine.dispose()


async def fresh_bucket() -> str:
    """The name of a new, empty bucket."""
    name = f"test-{secrets.token_hex(6)}"
    async with open_client(s3().options(), s3().endpoint_url) as client:
        await client.create_bucket(Bucket=name)
    return name


async def drop_bucket(name: str) -> None:
    """Remove what `fresh_bucket` made, with everything in it."""
    async with open_client(s3().options(), s3().endpoint_url) as client:
        for upload in (await client.list_multipart_uploads(Bucket=name)).get("Uploads", ()):
            await client.abort_multipart_upload(
                Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"]
            )
        async for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            for item in page.get("Contents", ()):
                await client.delete_object(Bucket=name, Key=item["Key"])
        await client.delete_bucket(Bucket=name)


class SharedServices(Deployment):
    """A bucket and a database of its own; Redis and Kafka shared, one deployment at a time."""

    name = "shared"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        server, _, _ = redis_url().rpartition("/")
        self.redis_url = f"{server}/{TEST_DATABASE}"
        with self._redis() as client:
            client.flushdb()
        self.bucket = asyncio.run(fresh_bucket())
        self.mysql_url = asyncio.run(fresh_database())

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
        with self._redis() as client:
            keys = [bytes(key).decode() for key in client.scan_iter(count=1000)]
        chunks = [key for key in keys if ":staging:" in key or ":chunks:" in key]
        return [*chunks, *asyncio.run(_listed(self.bucket, "list_multipart_uploads", "Uploads"))]

    def count_objects(self) -> int:
        return len(asyncio.run(_listed(self.bucket, "list_objects_v2", "Contents")))

    def remove(self) -> None:
        """The services go on; what this deployment made there does not."""
        asyncio.run(drop_bucket(self.bucket))
        asyncio.run(drop_database(self.mysql_url))

    @contextmanager
    def _redis(self) -> Iterator[Redis]:
        client = Redis.from_url(self.redis_url)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def shared_services(folder: Path) -> Iterator[SharedServices]:
    """A deployment on what runs, cleaned up afterwards."""
    deployment = SharedServices(folder)
    try:
        yield deployment
    finally:
        deployment.remove()


async def _listed(bucket: str, operation: str, field: str) -> list[str]:
    async with open_client(s3().options(), s3().endpoint_url) as client:
        answer = await getattr(client, operation)(Bucket=bucket)
    return [item["Key"] for item in answer.get(field, ())]


def _facts(service: str) -> Mapping[str, str]:
    """The entry of services.json."""
    folder = Path(os.environ.get("SLUICE_SERVICES_DIR") or ROOT / "var" / "services")
    try:
        services = json.loads((folder / "services.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        services = {}
    facts: Mapping[str, str] | None = services.get(service)
    if facts is None:
        message = f"no {service} runs for tests: `make services-up` starts one"
        if os.environ.get("SLUICE_REQUIRE_SERVICES") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return facts
