"""Temporary backends of one measurement: a Redis, a bucket, a database."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import botocore.session  # type: ignore[import-untyped]
import pymysql
import redis
from botocore.config import Config  # type: ignore[import-untyped]

from bench.processes import free_port, running
from bench.usage import Watched
from tools.backends import environment
from tools.backends.redis import find_server
from tools.backends.state import StateDirectory

REDIS_SETTINGS: Final[Mapping[str, str]] = {
    "save": "",
    "appendonly": "no",
    "maxmemory": "4gb",
    "maxmemory-policy": "noeviction",
}
"""Redis as the durability class `memory` requires it; every other setting is the default."""
_START_SECONDS = 60.0
_AT_ONCE = 1000


class MissingBackendError(Exception):
    """A phase needs a service that the environment does not name."""


def setting(name: str) -> str:
    """Return the setting of a service: from the environment, else from the services of
    tools/services.py.

    Raise MissingBackendError.
    """
    here = environment.settings(StateDirectory.default().published())
    if value := os.environ.get(name) or here.get(name):
        return value
    raise MissingBackendError(f"{name} is not set, and no such service runs here")


@dataclass(frozen=True, slots=True)
class TemporaryRedis:
    url: str
    process: Watched


@contextmanager
def temporary_redis() -> Iterator[TemporaryRedis]:
    """Run a Redis server with REDIS_SETTINGS on a free port.

    A separate server has known settings and holds no other keys.
    """
    _, program = find_server(install=True)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-redis-") as folder:
        settings = {**REDIS_SETTINGS, "bind": "127.0.0.1", "port": str(port), "dir": folder}
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with running([program, *words]) as process, redis.Redis(port=port) as client:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(client):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the Redis of the benchmark did not start")
                time.sleep(0.02)
            yield TemporaryRedis(f"redis://127.0.0.1:{port}/0", Watched(process.pid))


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def s3_client(settings: Mapping[str, str]) -> Any:
    """Return botocore's client of the S3 server in these settings."""
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=settings["SLUICE_S3__ENDPOINT_URL"],
        region_name=settings.get("SLUICE_S3__REGION", "us-east-1"),
        aws_access_key_id=settings["SLUICE_S3__ACCESS_KEY"],
        aws_secret_access_key=settings["SLUICE_S3__SECRET_KEY"],
        config=Config(s3={"addressing_style": "path"}),
    )


@contextmanager
def temporary_bucket(settings: Mapping[str, str]) -> Iterator[str]:
    """Create a bucket; delete it with its content at the end."""
    name = f"sluice-bench-{uuid.uuid4().hex[:12]}"
    with closing(s3_client(settings)) as client:
        client.create_bucket(Bucket=name)
        try:
            yield name
        finally:
            empty_bucket(client, name)
            client.delete_bucket(Bucket=name)


def empty_bucket(client: Any, name: str) -> None:
    """Delete every object and every multipart upload of a bucket."""
    for upload in client.list_multipart_uploads(Bucket=name).get("Uploads", []):
        client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    while found := client.list_objects_v2(Bucket=name, MaxKeys=_AT_ONCE).get("Contents", []):
        keys = [{"Key": each["Key"]} for each in found]
        client.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})


@contextmanager
def temporary_database(url: str) -> Iterator[str]:
    """Create a database on the server of `url`; drop it at the end. Return its URL."""
    parts = urlsplit(url)
    name = f"sluice_bench_{uuid.uuid4().hex[:12]}"
    connection = pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        autocommit=True,
    )
    with closing(connection), connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield parts._replace(path=f"/{name}").geturl()
        finally:
            connection.ping(reconnect=True)
            cursor.execute(f"DROP DATABASE {name}")
