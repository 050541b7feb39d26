"""The operators' commands on Redis, MariaDB and S3: a killed worker, damage and a drain."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import pytest

from sluice_backends.sql.migrate import migrate
from sluice_common.settings import SluiceSettings, load_settings
from sluice_core.objects.body import BytesBody
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.model import DEFAULT_PART_BYTES, ObjectRef
from sluice_repository.admin.backends import open_service_backends
from sluice_repository.admin.command import add_admin_command, admin_main
from sluice_repository.deps import RepositoryDeps
from sluice_repository.metrics import RepositoryMetrics
from support import mysql_server, s3_server
from support.admin import Line, json_lines, of_kind
from support.redis_server import RedisServer
from support.roles import DRIVE, TENANT, Clock, RecordingPublisher, World

LEASE_SECONDS = 600.0


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
async def settings(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> SluiceSettings:
    url = mysql_server.shared_server().create_database()
    await migrate(url)
    for name, value in {
        **s3_server.s3_account().settings(),
        "SLUICE_COORDINATION": "redis",
        "SLUICE_CHUNK_TRANSPORT": "redis",
        "SLUICE_OBJECTS": "s3",
        "SLUICE_EVENTS": "off",
        "SLUICE_CATALOGUE": "mysql",
        "SLUICE_BUCKET": await s3_server.new_bucket(),
        "SLUICE_REDIS__URL": redis.url,
        "SLUICE_MYSQL__URL": url,
    }.items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.fixture
async def world(settings: SluiceSettings) -> AsyncIterator[World]:
    """Provide the roles of a repository on these backends, and a drive."""
    metrics, publisher = RepositoryMetrics(), RecordingPublisher()
    async with open_service_backends(settings, metrics, True) as backends:
        assert backends.catalogue is not None
        assert backends.chunks is not None
        assert backends.queue is not None
        await backends.catalogue.create_drive(TENANT, DRIVE, "", "", DrivePolicy())
        deps = RepositoryDeps(
            ledger=backends.ledger,
            chunks=backends.chunks,
            queue=backends.queue,
            objects=backends.objects,
            catalogue=backends.catalogue,
            publisher=publisher,
            metrics=metrics,
            holder="unset",
            clock=time.time,
        )
        yield World(deps, Clock(), None, publisher)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Admin:
    """Runs commands in this process."""

    settings: SluiceSettings
    capsys: pytest.CaptureFixture[str]

    async def run(self, *arguments: str, code: int = 0) -> list[Line]:
        """Return the JSON lines; fail the test with another exit code."""
        parser = argparse.ArgumentParser()
        add_admin_command(parser.add_subparsers())
        parsed = parser.parse_args(["admin", *arguments, "--json"])
        self.capsys.readouterr()
        ended = 0
        try:
            await admin_main(self.settings, parsed, asyncio.Event())
        except SystemExit as exit_:
            ended = int(exit_.code or 0)
        out, err = self.capsys.readouterr()
        assert ended == code, (out, err)
        return json_lines(out)


@pytest.fixture
def admin(settings: SluiceSettings, capsys: pytest.CaptureFixture[str]) -> Admin:
    return Admin(settings, capsys)


async def test_an_upload_from_a_killed_worker_to_damage(
    world: World, admin: Admin, settings: SluiceSettings
) -> None:
    bucket = settings.bucket
    new = world.new_upload(part_bytes=DEFAULT_PART_BYTES)
    new = replace(new, object=ObjectRef(bucket, new.object.key))
    upload = await world.open(new, [b"one", b"two"])
    for number in range(2):
        await world.send(upload, number)
    await world.complete(upload)
    ledger = world.deps.ledger
    claim = await ledger.claim_part(upload.id, 1, "a killed worker", LEASE_SECONDS)
    assert claim is not None

    lines = await admin.run("upload", upload.id)
    (part,) = of_kind(lines, "part")
    assert (part["holder"], part["fence"]) == ("a killed worker", claim.fence.counter)
    assert of_kind(lines, "staged")[0]["bytes_read"] == 6
    assert lines[-1]["text"].startswith("a killed worker stores part 1")
    (left, last) = await admin.run("drain", "--timeout", "0", code=1)
    assert (left["completing"], left["uploads_with_ready_parts"]) == (1, 1)
    assert last["kind"] == "not_drained"

    # The lease ends, the hint at the part is lost, and a pass repeats it.
    await ledger.release_claim(claim)
    world.boot()
    swept = {line["work"]: line for line in await admin.run("sweep")}
    assert swept["requeued"]["done"] == 1
    await world.sweeper.sweep()  # of the process whose queue the test's workers read
    await world.work()
    while await world.relay.relay_once():
        pass
    assert (await admin.run("drain"))[-1]["kind"] == "drained"
    assert "waits for nothing" in (await admin.run("upload", upload.id))[-1]["text"]

    verify = ("verify", DRIVE, "--tenant", TENANT)
    (whole,) = await admin.run(*verify, "--checksum")
    assert (whole["nodes"], whole["bytes"]) == (1, 6)
    objects = world.deps.objects
    orphan = ObjectRef(bucket, f"{TENANT}/{DRIVE}/orphan")
    await objects.put(orphan, BytesBody(b"orphan"), ObjectAttributes())
    await objects.put(upload.new.object, BytesBody(b"onetwO"), ObjectAttributes())
    lines = await admin.run(*verify, "--checksum", code=1)
    found = {line["key"]: line["defect"] for line in of_kind(lines, "defect")}
    assert found.pop(orphan.key) == "ORPHAN"
    assert found[upload.new.object.key] in ("WRONG_CHECKSUM", "DAMAGED")
    await objects.delete(upload.new.object)
    lines = await admin.run(*verify, code=1)
    assert lines[-1]["missing"] == 1
    assert (await admin.run("upload", upload.id))[-1]["runbook"] == "integrity-failure"


async def test_unknown_things_end_with_1(world: World, admin: Admin) -> None:
    lines = await admin.run("upload", f"{world.deps.ledger.nonce}-0a0b", code=1)
    assert [line["kind"] for line in lines] == ["advice"]
    assert await admin.run("verify", "nonexistent", code=1) == []
