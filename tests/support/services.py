"""The shared services that `make services-up` or containers run."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sluice_backends.s3.client import open_client
from support.missing import missing
from support.s3_server import S3Account
from tools.backends.errors import ChoiceError
from tools.backends.supervisor import SERVICES

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class KafkaFacts:
    """The Kafka broker. `kind` is `apache`, or `mock` without Java."""

    bootstrap_servers: str
    kind: str


def redis_url() -> str:
    return _facts("redis")["url"]


def mysql_url() -> str:
    """Return the URL of the shared database; see `fresh_database`."""
    return _facts("mysql")["url"]


def kafka() -> KafkaFacts:
    facts = _facts("kafka")
    return KafkaFacts(facts["bootstrap_servers"], facts["kind"])


def s3() -> S3Account:
    facts = _facts("s3")
    return S3Account(facts["endpoint_url"], facts["access_key"], facts["secret_key"], facts["kind"])


async def fresh_database() -> str:
    """Create an empty database and return its URL."""
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
    """Remove a database of `fresh_database`."""
    engine = create_async_engine(mysql_url())
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"DROP DATABASE IF EXISTS {make_url(url).database}"))
    finally:
        await engine.dispose()


async def fresh_bucket() -> str:
    """Create an empty bucket and return its name."""
    name = f"test-{secrets.token_hex(6)}"
    async with open_client(s3().options(), s3().endpoint_url) as client:
        await client.create_bucket(Bucket=name)
    return name


async def drop_bucket(name: str) -> None:
    """Remove a bucket of `fresh_bucket` with all its content."""
    async with open_client(s3().options(), s3().endpoint_url) as client:
        for upload in (await client.list_multipart_uploads(Bucket=name)).get("Uploads", ()):
            await client.abort_multipart_upload(
                Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"]
            )
        async for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            for item in page.get("Contents", ()):
                await client.delete_object(Bucket=name, Key=item["Key"])
        await client.delete_bucket(Bucket=name)


def _facts(service: str) -> Mapping[str, str]:
    """Return the entry of services.json.

    Without the service the test skips; it fails under SLUICE_REQUIRE_SERVICES=1 (CI). It always
    fails if another server runs than the one requested by name.
    """
    folder = Path(os.environ.get("SLUICE_SERVICES_DIR") or ROOT / "var" / "services")
    try:
        services = json.loads((folder / "services.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        services = {}
    facts: Mapping[str, str] | None = services.get(service)
    if facts is None:
        missing(f"no {service} runs for tests: `make services-up` starts one")
    choice = SERVICES[service].choice
    if choice is not None:
        try:
            choice.check(service, dict(facts))
        except ChoiceError as error:
            pytest.fail(str(error))
    return facts
