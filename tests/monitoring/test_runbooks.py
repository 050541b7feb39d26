"""Runbooks followed for real: a fault is injected, its alert fires, the page's commands mend it."""

# `for` of the alerts is a second here; their conditions are the real ones. Those that need services
# are in the other files of this folder; docs/runbooks/README.md has a table of all alerts.

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2
from support.certificates import DAY, Authority, TlsPaths, write_tls
from support.cli import Sluice
from support.clone import ROOT
from support.deployments import Embedded
from support.environment import process_environment
from support.fleet import running
from support.processes import ServiceProcess
from support.prometheus import Prometheus, alertmanager, ends, fires, prometheus
from support.redis_server import RedisServer, binary, replicated
from support.server import StandaloneServer
from support.waiting import until
from support.wire import CHANNEL_OPTIONS, WireClient, cut
from tools.monitoring.files import PROMETHEUS

MIB: Final = 1024 * 1024
SECONDS: Final = 60.0
RULES: Final = (ROOT / PROMETHEUS / "rules" / "causes.yaml",)
ROUTES: Final = ROOT / PROMETHEUS / "alertmanager.yaml"
OPEN_BYTES: Final = 9_700 * 1024
"""More than 90 % of `SMALL_BUDGET`."""
SMALL_BUDGET: Final = {"SLUICE_BUDGET_BYTES": str(10 * MIB)}
PHASE_1: Final = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_CHUNK_TRANSPORT": "local",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
}
PHASE_3: Final = {
    "SLUICE_COORDINATION": "redis",
    "SLUICE_CHUNK_TRANSPORT": "redis",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
}
pytestmark = [pytest.mark.slow_fault, pytest.mark.usefixtures("prometheus_programs")]

FSYNC: Final = ("--appendonly", "yes", "--appendfsync", "always")


async def run(*command: str, settings: Mapping[str, str] | None = None) -> str:
    """Run a command of a runbook; fail the test unless it succeeds."""
    environment = process_environment(settings or {})
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ------------------------------------------------------------------ one process, embedded


@asynccontextmanager
async def embedded(
    folder: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[StandaloneServer, Prometheus]]:
    with Embedded(folder).serving(settings) as server:
        targets = {"sluice": [server.metrics_address]}
        with prometheus(folder / "prometheus", targets, RULES) as watching:
            yield server, watching


async def test_process_that_was_killed_is_started_again(tmp_path: Path) -> None:
    """And the pager hears of it, and of its end: through a real Alertmanager."""
    with (
        Embedded(tmp_path).serving() as server,
        alertmanager(tmp_path / "alertmanager", ROUTES) as (address, webhook),
        prometheus(
            tmp_path / "prometheus", {"sluice": [server.metrics_address]}, RULES, address
        ) as watching,
    ):
        server.kill()
        await fires(watching, "SluiceTargetDown")
        await until(
            lambda: "SluiceTargetDown" in webhook.firing.get("/pager", set()),
            SECONDS,
            "the pager hears of it",
        )
        assert "/tracker" not in webhook.firing
        await asyncio.to_thread(server.start)
        await ends(watching, "SluiceTargetDown")
        await until(lambda: "SluiceTargetDown" in webhook.resolved, SECONDS, "and of its end")


async def test_full_budget_is_freed_by_an_abort(tmp_path: Path) -> None:
    async with embedded(tmp_path, SMALL_BUDGET) as (server, watching):
        sluice = Sluice(server.address, tmp_path / "state")
        async with grpc.aio.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
            client = WireClient(channel)
            opened = await client.initiate("held", drive="wire")
            _, *later = cut(bytes(MIB + OPEN_BYTES), [MIB, OPEN_BYTES])
            await client.send_unary(opened.upload_id, later)
        await fires(watching, "SluiceBudgetFull")
        (held,) = (await asyncio.to_thread(sluice.ok, "uploads", "--json")).json_lines()
        assert held["upload_id"] == opened.upload_id
        await asyncio.to_thread(sluice.ok, "abort", opened.upload_id)
        await ends(watching, "SluiceBudgetFull")


async def test_restored_older_catalogue_is_migrated(tmp_path: Path) -> None:
    async with embedded(tmp_path) as (server, watching):
        file = server.data_dir / "catalogue.sqlite"
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '0008'")
        await fires(watching, "SluiceMigrationsPending")
        settings = {"SLUICE_DATA_DIR": str(server.data_dir), "SLUICE_CATALOGUE": "sqlite"}
        printed = await run(sys.executable, "-m", "sluice_repository", "migrate", settings=settings)
        assert "applied" in printed
        await ends(watching, "SluiceMigrationsPending")


# ------------------------------------------------------------------ certificates


async def test_ending_certificate_is_replaced_without_restart(tmp_path: Path) -> None:
    authority = Authority()
    paths: TlsPaths = write_tls(tmp_path / "tls", authority, authority.issue(ends=3 * DAY))
    tls = {"SLUICE_TLS__CERT_FILE": str(paths.cert), "SLUICE_TLS__KEY_FILE": str(paths.key)}
    intake = ServiceProcess("sluice_intake", tmp_path, {**PHASE_1, **tls})
    async with running(intake):
        targets = {"sluice-intake": [intake.metrics_address]}
        with prometheus(
            tmp_path / "prometheus", targets, RULES, with_tls=["sluice-intake"]
        ) as watching:
            await fires(watching, "SluiceCertificateEnds")
            authority.issue(ends=30 * DAY).write(paths)
            await ends(watching, "SluiceCertificateEnds")


# ------------------------------------------------------------------ Redis


@asynccontextmanager
async def on_redis(
    folder: Path, redis: RedisServer, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[ServiceProcess, Prometheus]]:
    """Run an intake of phase 3."""
    intake = ServiceProcess(
        "sluice_intake", folder, {**PHASE_3, "SLUICE_REDIS__URL": redis.url, **(settings or {})}
    )
    async with running(intake):
        targets = {"sluice-intake": [intake.metrics_address]}
        with prometheus(folder / "prometheus", targets, RULES) as watching:
            yield intake, watching


async def redis_cli(redis: RedisServer, *arguments: str) -> str:
    return await run(binary("redis-cli"), "-u", redis.url, *arguments)


async def test_lost_fsync_of_redis_is_set_again(tmp_path: Path) -> None:
    with RedisServer(*FSYNC) as redis:
        async with on_redis(tmp_path, redis, {"SLUICE_DURABILITY": "fsync"}) as (_, watching):
            await redis_cli(redis, "config", "set", "appendfsync", "everysec")
            await fires(watching, "SluiceRedisDurabilityLost")
            assert "everysec" in await redis_cli(redis, "config", "get", "appendfsync")
            await redis_cli(redis, "config", "set", "appendonly", "yes")
            await redis_cli(redis, "config", "set", "appendfsync", "always")
            await redis_cli(redis, "config", "set", "no-appendfsync-on-rewrite", "no")
            await ends(watching, "SluiceRedisDurabilityLost")


async def test_lost_replica_of_redis_is_started_again(tmp_path: Path) -> None:
    with replicated() as (master, replica):
        settings = {"SLUICE_DURABILITY": "replicated"}
        async with on_redis(tmp_path, master, settings) as (_, watching):
            replica.stop()
            await fires(watching, "SluiceRedisDurabilityLost")
            assert "connected_slaves:0" in await redis_cli(master, "info", "replication")
            replica.start()
            await redis_cli(replica, "replicaof", "127.0.0.1", str(master.port))
            await ends(watching, "SluiceRedisDurabilityLost")


async def test_nearly_full_redis_gets_more_memory(tmp_path: Path) -> None:
    with RedisServer("--maxmemory", "60mb") as redis:
        async with on_redis(tmp_path, redis) as (_, watching):
            await asyncio.to_thread(fill, redis)
            await fires(watching, "SluiceRedisMemoryHigh")
            assert "noeviction" in await redis_cli(redis, "info", "memory")
            await redis_cli(redis, "config", "set", "maxmemory", "1gb")
            await ends(watching, "SluiceRedisMemoryHigh")


def fill(redis: RedisServer) -> None:
    """Use 87 % of `maxmemory`."""
    with redis.client() as client:
        while (memory := client.info("memory"))["used_memory"] < 0.87 * memory["maxmemory"]:
            client.rpush("ballast", os.urandom(MIB // 4))


async def test_emptied_redis_is_reported(tmp_path: Path) -> None:
    """Nothing is left to mend: what the page has to see is a new nonce."""
    with RedisServer() as redis:
        async with on_redis(tmp_path, redis) as (_, watching):
            before = await redis_cli(redis, "get", "sluice:nonce")
            redis.flush()
            await fires(watching, "SluiceRedisEmptied")
            assert await redis_cli(redis, "get", "sluice:nonce") != before


async def test_damaged_chunk_is_sent_again(tmp_path: Path) -> None:
    """A chunk is damaged in Redis before its part is stored."""
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        intake, _ = await stack.enter_async_context(on_redis(tmp_path, redis))
        settings = {**PHASE_3, "SLUICE_REDIS__URL": redis.url}
        repository = ServiceProcess("sluice_repository", tmp_path, settings)
        await stack.enter_async_context(running(repository))
        targets = {"sluice-repository": [repository.metrics_address]}
        watching = stack.enter_context(prometheus(tmp_path / "second", targets, RULES))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(intake.address, options=CHANNEL_OPTIONS)
        )
        client = WireClient(channel)
        opened = await client.initiate("damaged", drive="wire")
        # Not known to be the last one: its part is not ready yet, and nobody reads it.
        chunks = [replace(chunk, is_last=False) for chunk in cut(os.urandom(MIB), [MIB])]
        await client.send_unary(opened.upload_id, chunks)
        damage(redis, opened.upload_id)
        await client.complete(opened.upload_id, total_chunks=1, wait_seconds=0)
        await fires(watching, "SluiceIntegrityFailure")
        sluice = Sluice(intake.address, tmp_path / "state")
        (status,) = (
            await asyncio.to_thread(sluice.ok, "status", opened.upload_id, "--json")
        ).json_lines()
        assert status["missing"], status
        await client.send_unary(opened.upload_id, chunks)
        ended = await client.complete(opened.upload_id, total_chunks=1)
        assert ended.state == upload_pb2.UPLOAD_STATE_COMPLETED


def damage(redis: RedisServer, upload_id: str) -> None:
    """Flip a bit of the first block of the only chunk."""
    with redis.client() as client:
        (key,) = [name for name in redis.all_keys() if f"{{{upload_id}}}:chunks:" in name]
        block = client.lindex(key, 0)
        assert isinstance(block, bytes)
        client.lset(key, 0, bytes([block[0] ^ 1]) + block[1:])
