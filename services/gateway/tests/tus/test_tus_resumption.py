"""Uploads that are interrupted, repeated, raced and moved between replicas."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.checksums import crc32c
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.paced_bodies import Pace
from sluice_gateway.tus.options import TusOptions
from sluice_intake.options import IntakeOptions
from support.gateway import Gateway, Reply, TusBackend, running_gateway
from support.intake import Intake, TenantFromHeader, running_intake
from support.tus import CutPatch, TusClient, checksum_of, finish
from support.waiting import until

MIB = 1024 * 1024
CONTENT = random.Random(7).randbytes(5 * MIB + 321)


async def assert_stored(intake: Intake, path: str, content: bytes) -> None:
    """Assert that the ledger holds these bytes, complete and in order."""
    status = await intake.of("Bearer ann").status(path.removeprefix("/files/"))
    assert (status.received_bytes, status.crc32c) == (len(content), crc32c(content))
    assert status.total_chunks == status.received_chunks


async def until_offset(tus: TusClient, path: str, least: int) -> int:
    """Return the offset once it has reached `least`."""
    async with asyncio.timeout(20):
        while (offset := await tus.offset(path)) < least:  # noqa: ASYNC110 - by HTTP alone
            await asyncio.sleep(0.02)
    return offset


class CountedBodies:
    """A layer that counts the bytes that the application has read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.read_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            message = await receive()
            self.read_bytes += len(message.get("body", b""))
            return message

        await self._app(scope, counted, send)


async def test_broken_body_is_kept_and_resumed(
    tmp_path: Path, backend: TusBackend, intake: Intake
) -> None:
    """Also what does not fill a chunk: a phone on a bad line gets on."""
    layers: list[CountedBodies] = []

    def counting(app: ASGIApp) -> ASGIApp:
        layers.append(CountedBodies(app))
        return layers[-1]

    async with running_gateway(tmp_path, tus=backend, wrap=counting) as gateway:
        tus = TusClient(gateway, "ann")
        path = await tus.created(len(CONTENT))
        sent = 0
        for size in (700_000, 2 * MIB, 5, 300_000):
            body = CONTENT[sent : sent + size]
            cut = await CutPatch.begin(tus, path, sent, len(CONTENT) - sent, body)
            sent += size
            await until(lambda: layers[0].read_bytes == sent)  # noqa: B023 - awaited at once
            cut.reset()
            assert await until_offset(tus, path, sent) == sent
        await finish(tus, path, CONTENT)
    await assert_stored(intake, path, CONTENT)


async def test_reset_connection_is_resumed(tus: TusClient, intake: Intake) -> None:
    path = await tus.created(len(CONTENT))
    cut = await CutPatch.begin(tus, path, 0, len(CONTENT), CONTENT[: 3 * MIB])
    await until_offset(tus, path, MIB)
    cut.reset()
    assert await finish(tus, path, CONTENT) >= MIB
    await assert_stored(intake, path, CONTENT)
    registry = tus.gateway.deps.metrics.registry
    refused = registry.get_sample_value("sluice_http_refused_total", {"reason": "INTERNAL"})
    assert refused is None, "a body that breaks off is no defect"


async def test_body_with_checksum_counts_only_as_a_whole(tus: TusClient, intake: Intake) -> None:
    """It breaks off before its last byte, with two blocks at the intake already."""
    path = await tus.created(len(CONTENT))
    body = CONTENT[: 2 * MIB]
    cut = await CutPatch.begin(
        tus, path, 0, len(body), body[:-1], upload_checksum=checksum_of(body)
    )
    await until(lambda: cut.is_sent)
    cut.reset()
    reply = await tus.patch(path, 0, body, upload_checksum=checksum_of(body))
    assert reply.headers["upload-offset"] == str(len(body)), "nothing had counted"
    await finish(tus, path, CONTENT)
    await assert_stored(intake, path, CONTENT)


async def test_two_replicas_take_turns(
    tmp_path: Path, tus: TusClient, backend: TusBackend, intake: Intake
) -> None:
    (tmp_path / "second").mkdir()
    async with running_gateway(tmp_path / "second", tus=backend) as second:
        clients = (tus, TusClient(second, "ann"))
        path = await tus.created(len(CONTENT))
        offset, turn = 0, 0
        while offset < len(CONTENT):
            client = clients[turn % 2]
            assert await client.offset(path) == offset
            piece = CONTENT[offset : offset + 777_777]
            reply = await client.patch(path, offset, piece)
            assert (reply.status, reply.headers["upload-offset"]) == (204, str(offset + len(piece)))
            offset, turn = offset + len(piece), turn + 1
        assert [await client.offset(path) for client in clients] == [len(CONTENT)] * 2
    await assert_stored(intake, path, CONTENT)


async def test_equal_requests_at_a_time_store_bytes_once(
    tmp_path: Path, tus: TusClient, backend: TusBackend, intake: Intake
) -> None:
    """A client that gave its first request up sends the same again, perhaps to another replica."""
    (tmp_path / "second").mkdir()
    async with running_gateway(tmp_path / "second", tus=backend) as second:
        other = TusClient(second, "ann")
        for _ in range(3):
            path = await tus.created(len(CONTENT))
            replies = await asyncio.gather(
                *(client.patch(path, 0, CONTENT) for client in (tus, other, tus))
            )
            assert {reply.status for reply in replies} <= {204, 409}
            await finish(tus, path, CONTENT)
            await assert_stored(intake, path, CONTENT)


async def test_requests_of_other_sizes_do_not_mix(tus: TusClient, intake: Intake) -> None:
    """Their chunks have other boundaries: the one that comes second is refused."""
    for seed in range(5):
        path = await tus.created(len(CONTENT))
        sizes = [random.Random(seed).randrange(1, len(CONTENT)) for _ in range(3)]
        sizes.append(len(CONTENT))
        replies = await asyncio.gather(*(tus.patch(path, 0, CONTENT[:size]) for size in sizes))
        assert {reply.status for reply in replies} <= {204, 409}
        conflicts = [reply.reason for reply in replies if reply.status == 409]
        assert set(conflicts) <= {"UPLOAD_OFFSET_MISMATCH"}
        await finish(tus, path, CONTENT)
        await assert_stored(intake, path, CONTENT)


async def test_other_bytes_at_a_time_do_not_mix(tus: TusClient, intake: Intake) -> None:
    """Two contents from one offset: one of them, never a mixture."""
    contents = [bytes([letter]) * (3 * MIB) for letter in b"ab"]
    path = await tus.created(3 * MIB)
    replies = await asyncio.gather(*(tus.patch(path, 0, content) for content in contents))
    assert sorted(reply.status for reply in replies) == [204, 409]
    status = await intake.of("Bearer ann").status(path.removeprefix("/files/"))
    assert status.crc32c in [crc32c(content) for content in contents]


async def test_last_step_is_repeated_by_head(tus: TusClient, intake: Intake) -> None:
    """A process may end after the last byte and before the completion. The client learns that all
    bytes are there and sends none."""
    path = await tus.created(5)
    # As such a process leaves the upload.
    await intake.of("Bearer ann").send(path.removeprefix("/files/"), 0, b"hello")
    assert await tus.offset(path) == 5
    await assert_stored(intake, path, b"hello")


async def test_upload_expires_a_day_after_its_last_byte(tmp_path: Path) -> None:
    """By a clock that the test drives, as the sweeper of the repository ends uploads."""
    now, day = [1_800_000_000.0], 24 * 3600.0
    ledger = MemoryLedger(LedgerOptions(), lambda: now[0])

    def expiry(reply: Reply) -> float:
        return parsedate_to_datetime(reply.headers["upload-expires"]).timestamp()

    async with running_intake(ledger=ledger) as intake:
        backend = TusBackend(
            intake.address, "127.0.0.1:1", authentication=Authentication(TenantFromHeader())
        )
        async with running_gateway(tmp_path, tus=backend) as gateway:
            tus = TusClient(gateway, "ann")
            created = await tus.create(10)
            path = created.headers["location"]
            assert expiry(created) == now[0] + day
            now[0] += day - 1
            patched = await tus.patch(path, 0, b"hello")
            assert expiry(patched) == expiry(await tus.head(path)) == now[0] + day
            now[0] += day - 1
            assert await ledger.expire_due(10) == []
            assert await tus.offset(path) == 5
            now[0] += 2
            assert await ledger.expire_due(10) == []  # it is only found, and gets some grace
            now[0] += LedgerOptions().expiry_grace_seconds
            assert len(await ledger.expire_due(10)) == 1
            for gone in (await tus.head(path), await tus.patch(path, 5, b"world")):
                assert gone.status == 410


async def test_slow_body_ends_and_keeps_its_bytes(
    tmp_path: Path, backend: TusBackend, options: TusOptions
) -> None:
    slow = replace(options, pace=Pace(stall_seconds=0.5))
    async with running_gateway(tmp_path, tus=replace(backend, options=slow)) as gateway:
        tus = TusClient(gateway, "ann")
        path = await tus.created(len(CONTENT))
        cut = await CutPatch.begin(tus, path, 0, len(CONTENT), CONTENT[:1000])
        async with asyncio.timeout(20):
            assert await cut.status() == 408
        assert await tus.offset(path) == 1000
        cut.writer.close()


async def test_bodies_at_a_time_are_bounded(
    tmp_path: Path, backend: TusBackend, options: TusOptions
) -> None:
    few = replace(options, max_bodies=4)
    async with running_gateway(tmp_path, tus=replace(backend, options=few)) as gateway:
        ann, bob = TusClient(gateway, "ann"), TusClient(gateway, "bob")
        path = await ann.created(len(CONTENT))
        held = [await CutPatch.begin(ann, path, 0, len(CONTENT), b"") for _ in range(2)]
        await _until_status(ann, path, 503)
        assert (await ann.patch(path, 0, b"")).reason == "UNFINISHED_MESSAGES"
        other = await bob.created(5)
        assert (await bob.patch(other, 0, b"hello")).status == 204, "slow bodies are of one tenant"
        for cut in held:
            cut.reset()
        await _until_status(ann, path, 204)


async def _until_status(tus: TusClient, path: str, status: int) -> None:
    """Return once an empty PATCH gets this status."""
    async with asyncio.timeout(20):
        while (await tus.patch(path, 0, b"")).status != status:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
async def full_intake() -> AsyncIterator[Intake]:
    """An intake whose room one upload fills; nothing frees it."""
    ledger = LedgerOptions(budget_bytes=4 * MIB, tenant_budget_bytes=4 * MIB)
    async with running_intake(IntakeOptions(ledger=ledger)) as running:
        yield running


async def test_body_is_read_no_faster_than_it_is_accepted(
    tmp_path: Path, full_intake: Intake, options: TusOptions
) -> None:
    """While the intake has no room, the client's socket takes no more."""
    backend = TusBackend(
        full_intake.address, "127.0.0.1:1", options, Authentication(TenantFromHeader())
    )
    async with running_gateway(tmp_path, tus=backend) as gateway:
        tus = TusClient(gateway, "ann")
        size = options.max_size
        filler, path = await tus.created(size), await tus.created(size)
        blocked = await _fill(tus, filler, size)
        cut = await CutPatch.begin(tus, path, 0, size, b"")
        sent = await _send_until_blocked(cut, size)
        assert await tus.offset(path) + 16 * MIB > sent
        assert sent < size
        for each in (blocked, cut):
            each.reset()


async def _fill(tus: TusClient, path: str, size: int) -> CutPatch:
    cut = await CutPatch.begin(tus, path, 0, size, b"")
    await _send_until_blocked(cut, size)
    return cut


async def _send_until_blocked(cut: CutPatch, size: int) -> int:
    """Send zeros until the socket takes no more for a while; return how many it took."""
    sent = 0
    while sent < size:
        try:
            async with asyncio.timeout(2):
                await cut.add(bytes(64 * 1024))
        except TimeoutError:
            break
        sent += 64 * 1024
    return sent


async def test_gateway_that_stops_keeps_what_it_had(
    tmp_path: Path, backend: TusBackend, intake: Intake, gateway: Gateway
) -> None:
    """A replica goes away inside a request; another one continues at the offset."""
    (tmp_path / "second").mkdir()
    other = TusClient(gateway, "ann")
    async with running_gateway(tmp_path / "second", tus=backend) as second:
        tus = TusClient(second, "ann")
        path = await tus.created(len(CONTENT))
        cut = await CutPatch.begin(tus, path, 0, len(CONTENT), CONTENT[: 3 * MIB])
        await until_offset(other, path, MIB)
    cut.writer.close()
    assert await finish(other, path, CONTENT) >= MIB
    await assert_stored(intake, path, CONTENT)
