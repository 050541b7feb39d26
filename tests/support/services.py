"""The shared services that `make services-up` or containers run."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.engine import make_url

from sluice_backends.kafka.options import KafkaOptions, SecurityProtocol
from sluice_backends.s3.client import open_client
from support.missing import missing
from support.s3_account import S3Account
from tools.backends import mysql, tls
from tools.backends.environment import settings
from tools.backends.errors import ChoiceError
from tools.backends.supervisor import SERVICES

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class KafkaFacts:
    """The Kafka broker. `kind` is `apache`, or `mock` without Java."""

    bootstrap_servers: str
    kind: str
    settings: Mapping[str, str]
    """Environment variables of a service that uses it."""
    options: KafkaOptions


def redis_url() -> str:
    return _facts("redis")["url"]


def mysql_url() -> str:
    """Return the URL of the shared database; see `fresh_database`."""
    return _facts("mysql")["url"]


def kafka() -> KafkaFacts:
    facts = dict(_facts("kafka"))
    servers, ca_file = facts["bootstrap_servers"], facts.get("ca_file")
    options = KafkaOptions(servers)
    if ca_file is not None:
        protocol = SecurityProtocol(facts["security_protocol"])
        options = replace(options, security_protocol=protocol, ca_file=Path(ca_file))
    return KafkaFacts(servers, facts["kind"], settings({"kafka": facts}), options)


def s3() -> S3Account:
    facts = _facts("s3")
    return S3Account(
        facts["endpoint_url"],
        facts["access_key"],
        facts["secret_key"],
        facts["kind"],
        facts.get("ca_file"),
    )


def use_tls() -> bool:
    """Return whether this test run uses services with TLS (SLUICE_SERVICES_TLS=1)."""
    return tls.wanted()


async def fresh_database() -> str:
    """Create an empty database and return its URL."""
    name = f"test_{secrets.token_hex(6)}"
    await asyncio.to_thread(_execute, f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    return make_url(mysql_url()).set(database=name).render_as_string(hide_password=False)


async def drop_database(url: str) -> None:
    """Remove a database of `fresh_database`."""
    await asyncio.to_thread(_execute, f"DROP DATABASE IF EXISTS {make_url(url).database}")


def _execute(statement: str) -> None:
    with mysql.connect(dict(_facts("mysql"))) as connection, connection.cursor() as cursor:
        cursor.execute(statement)


async def fresh_bucket() -> str:
    """Create an empty bucket and return its name."""
    name = f"test-{secrets.token_hex(6)}"
    async with open_client(s3().options()) as client:
        await client.create_bucket(Bucket=name)
    return name


async def drop_bucket(name: str) -> None:
    """Remove a bucket of `fresh_bucket` with all its content."""
    async with open_client(s3().options()) as client:
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
    try:
        if choice is not None:
            choice.check(service, dict(facts))
        if ("ca_file" in facts) != use_tls():
            raise ChoiceError(
                f"the {service} for tests runs {'without' if use_tls() else 'with'} TLS: run "
                "`make test-tls` for tests with TLS, or choose another SLUICE_SERVICES_DIR"
            )
    except ChoiceError as error:
        pytest.fail(str(error))
    return facts
