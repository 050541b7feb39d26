"""Tests of commit packets (ADR 0011) whose sender disconnects before the response.

A proxy truncates the packet, drops the response, or delivers the packet late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sluice_backends.memory.queue import InProcessQueue
from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_backends.sql.schema import metadata
from sluice_core.errors import DataLoss, Unavailable
from sluice_core.ports.catalogue import CommitOutcome
from sluice_core.uploads.model import UploadStatus
from sluice_repository.deps import RepositoryDeps
from sluice_repository.roles.completer import Completer
from sluice_repository.roles.parts import PartStorer
from sluice_repository.work.queue_worker import QueueWorker
from support.commits import TENANT, finished_upload, intent_of
from support.mysql_proxy import AtCommit, MysqlProxy
from support.mysql_server import MysqlServer
from support.roles import HOUR, Upload, World, pieces, small_world

ONE_OBJECT = pieces(700, 100)
IN_PARTS = pieces(3_300, 500)
NODE = b"INSERT INTO nodes"
INTENT = b"INSERT INTO object_intents"
EVENT_TYPES = ["UploadInitiated", "UploadCompleted"]
SECONDS = 20.0
"""Upper bound of every wait, sufficient on a loaded machine."""

Rows = dict[str, list[tuple[object, ...]]]


@dataclass(frozen=True, slots=True)
class Backend:
    """A database and the proxy in front of it."""

    server: MysqlServer
    name: str
    proxy: MysqlProxy

    def rows(self) -> Rows:
        """Return every row of every table."""
        return {
            table: self.server.run(f"SELECT * FROM {self.name}.{table} ORDER BY 1, 2")
            for table in metadata.tables
        }

    def lock_waits(self) -> object:
        """Return how often any transaction has waited for a row lock."""
        return self.server.run("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'")

    async def wait_until_disconnected(self) -> None:
        """Wait until the server has closed all sessions of the proxy."""
        query = "SELECT host FROM information_schema.processlist"
        ends = {f"127.0.0.1:{port}" for port in self.proxy.upstream_ports}
        async with asyncio.timeout(SECONDS):
            while ends & {str(host) for (host,) in self.server.run(query)}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.fixture
def backend(url: str, proxy: MysqlProxy, server: MysqlServer) -> Backend:
    return Backend(server, url.rpartition("/")[2], proxy)


# -- partial packets


WHERE = pytest.mark.parametrize(
    "first_bytes",
    [
        pytest.param(4, id="its length"),
        pytest.param(200, id="some of its first statement"),
        pytest.param(-len(";COMMIT"), id="every statement but COMMIT"),
        pytest.param(-1, id="all but its last byte"),
    ],
)


@WHERE
async def test_partial_packet_takes_no_locks_until_complete(
    backend: Backend, catalogue: SqlCatalogue, proxied: str, first_bytes: int
) -> None:
    """No statement runs before the packet is complete; then all of them do."""
    upload, proxy = finished_upload("a"), backend.proxy
    await catalogue.record_intent(intent_of(upload))
    proxy.only_with, proxy.first_bytes = NODE, first_bytes
    before, waits = backend.rows(), backend.lock_waits()
    async with open_catalogue(proxied) as remote, asyncio.TaskGroup() as group:
        proxy.at_commit = AtCommit.HOLD
        committing = group.create_task(remote.commit_node(upload))
        await proxy.commits_seen.acquire()
        other = finished_upload("a")
        assert (await catalogue.commit_node(other)).created
        await catalogue.delete_node(TENANT, other.node_id)
        assert backend.lock_waits() == waits
        assert backend.rows()["object_intents"] == before["object_intents"]
        await proxy.deliver()
    assert committing.result() == CommitOutcome(created=True)
    assert (await catalogue.get_node(TENANT, upload.node_id)).path == "a"
    assert backend.rows()["object_intents"] == []


@WHERE
async def test_truncated_packet_changes_nothing(
    backend: Backend, catalogue: SqlCatalogue, proxied: str, first_bytes: int
) -> None:
    upload, proxy = finished_upload("a"), backend.proxy
    await catalogue.record_intent(intent_of(upload))
    proxy.only_with, proxy.first_bytes = NODE, first_bytes
    before = backend.rows()
    async with open_catalogue(proxied) as remote:
        proxy.at_commit = AtCommit.LOSE_REQUEST
        with pytest.raises(Unavailable, match="CATALOGUE_UNAVAILABLE"):
            await remote.commit_node(upload)
    await backend.wait_until_disconnected()
    assert backend.rows() == before
    assert await catalogue.commit_node(upload) == CommitOutcome(created=True)
    rows = backend.rows()
    assert [len(rows[table]) for table in ("nodes", "paths", "outbox")] == [1, 1, 1]
    assert rows["object_intents"] == []


# -- one upload committed by two workers


@dataclass(frozen=True, slots=True)
class Stage:
    """Two repositories on one ledger and catalogue; `remote` uses the proxy."""

    world: World
    remote: RepositoryDeps
    backend: Backend
    fences: list[Any]
    """Fences of the claimed completions, in order."""

    async def work_until_lost(self, upload: Upload, fault: AtCommit, packet: bytes = NODE) -> None:
        """Run the repository behind the proxy until it sends such a packet without a response.

        With a held packet there is no response at all: the repository is then cancelled, which
        closes its connection.
        """
        proxy = self.backend.proxy
        proxy.only_with, proxy.at_commit = packet, fault
        deps = replace(self.remote, queue=InProcessQueue(clock=self.world.clock))
        completer = Completer(deps)
        parts = QueueWorker(deps, PartStorer(deps, completer), "parts-0")
        completions = QueueWorker(deps, completer, "completer-0")
        await _hint(deps)
        sent = asyncio.Event()

        async def work() -> None:
            while not sent.is_set():
                assert await parts.work_one(0) or await completions.work_one(0)

        working = asyncio.create_task(work())
        async with asyncio.timeout(SECONDS):
            await proxy.commits_seen.acquire()
        sent.set()
        if fault is AtCommit.HOLD:
            working.cancel()
        (ended,) = await asyncio.gather(working, return_exceptions=True)
        assert ended is None or isinstance(ended, asyncio.CancelledError)

    async def events(self, upload: Upload) -> list[str]:
        """Return the unpublished event types of the upload's node."""
        rows = [row.event for row in await self.world.catalogue.outbox(1_000)]
        return [one.type.rpartition(".")[2] for one in rows if one.key == upload.new.node_id]

    async def take_over(self, upload: Upload) -> UploadStatus:
        """Let the other repository work; return the status of the upload."""
        await _hint(self.world.deps)
        await self.world.work()
        return await self.world.status(upload)

    async def assert_finished_by_another(self, upload: Upload) -> None:
        """Assert that the other repository completes the upload exactly once."""
        assert await self.take_over(upload) is UploadStatus.COMPLETED
        rows = self.backend.rows()
        assert [len(rows[table]) for table in ("nodes", "paths")] == [1, 1]
        assert rows["object_intents"] == rows["object_deletions"] == []
        assert await self.events(upload) == EVENT_TYPES

    async def assert_whole_after_sweep(self, upload: Upload) -> None:
        """Assert consistency after sweeps and publication."""
        world = self.world
        await world.settle(60)
        world.clock.advance(2 * HOUR)
        await world.settle(60)
        await world.assert_whole(upload)
        assert world.publisher.types(upload.new.node_id) == EVENT_TYPES
        assert (await world.orphans()).none()
        assert self.backend.rows()["object_intents"] == []


async def _hint(deps: RepositoryDeps) -> None:
    """Queue hints for all ready work, as a sweeper does."""
    for item in await deps.ledger.ready_work(100):
        await deps.queue.put(item)


@pytest.fixture
async def stage(
    tmp_path: Path, url: str, proxied: str, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    fences: list[Any] = []
    async with (
        small_world(tmp_path, catalogue_url=url) as world,
        open_catalogue(proxied, clock=world.clock) as remote,
    ):
        claim_completion = world.deps.ledger.claim_completion

        async def recording_claim(*arguments: Any) -> Any:
            claim = await claim_completion(*arguments)
            if claim is not None:
                fences.append(claim.fence)
            return claim

        monkeypatch.setattr(world.deps.ledger, "claim_completion", recording_claim)
        deps = replace(world.deps, catalogue=remote, holder="behind the proxy")
        yield Stage(world, deps, backend, fences)


BOTH_PLANS = pytest.mark.parametrize("chunks", [ONE_OBJECT, IN_PARTS], ids=["one", "in parts"])


@pytest.mark.rule(18, 19)
@BOTH_PLANS
@pytest.mark.parametrize(
    ("fault", "committed"),
    [
        pytest.param(AtCommit.LOSE_REQUEST, False, id="all but its last byte was there"),
        pytest.param(AtCommit.LOSE_ANSWER, True, id="all of it was there"),
    ],
)
async def test_second_worker_finishes_unanswered_commit(
    stage: Stage, fault: AtCommit, committed: bool, chunks: Sequence[bytes]
) -> None:
    upload = await stage.world.upload(chunks)
    stage.backend.proxy.first_bytes = -1
    await stage.work_until_lost(upload, fault)
    await stage.backend.wait_until_disconnected()
    rows = stage.backend.rows()
    assert len(rows["nodes"]) == len(rows["paths"]) == committed
    assert len(rows["object_intents"]) == (not committed)
    assert await stage.events(upload) == (EVENT_TYPES if committed else [])
    await stage.assert_finished_by_another(upload)
    await stage.assert_whole_after_sweep(upload)


@pytest.mark.rule(18, 19)
@BOTH_PLANS
async def test_late_packet_after_takeover_changes_nothing(
    stage: Stage, chunks: Sequence[bytes]
) -> None:
    upload = await stage.world.upload(chunks)
    await stage.work_until_lost(upload, AtCommit.HOLD)
    await stage.assert_finished_by_another(upload)
    early, late = stage.fences
    assert early.counter < late.counter
    rows = stage.backend.rows()
    await stage.backend.proxy.deliver()
    assert stage.backend.rows() == rows
    await stage.assert_whole_after_sweep(upload)


@pytest.mark.rule(19, 26)
async def test_late_packet_does_not_restore_deleted_node(
    stage: Stage,
) -> None:
    upload = await stage.world.upload(ONE_OBJECT)
    await stage.work_until_lost(upload, AtCommit.HOLD)
    await stage.assert_finished_by_another(upload)
    await stage.world.catalogue.delete_node(TENANT, upload.new.node_id)
    rows = stage.backend.rows()
    await stage.backend.proxy.deliver()
    assert stage.backend.rows() == rows


# -- an upload that failed meanwhile


async def fail_with_damage(stage: Stage, upload: Upload) -> None:
    """Fail the upload: the store reports damage of the object."""
    error = DataLoss("OBJECT_DAMAGED", "The stored bytes are damaged.")
    stage.world.objects.before["head"] = [error]
    assert await stage.take_over(upload) is UploadStatus.FAILED


async def fail_with_taken_path(stage: Stage, upload: Upload) -> None:
    """Fail the upload: another one takes its path, and that node is deleted."""
    other = finished_upload(upload.new.path)
    await stage.world.catalogue.commit_node(other)
    assert await stage.take_over(upload) is UploadStatus.FAILED
    await stage.world.catalogue.delete_node(TENANT, other.node_id)


@pytest.mark.rule(13, 19, 25)
@pytest.mark.parametrize("failed", [fail_with_damage, fail_with_taken_path])
async def test_late_packet_of_failed_upload_creates_no_node(stage: Stage, failed: Any) -> None:
    """The sweeper deleted the object and the intent, without which the commit must fail."""
    upload = await stage.world.upload(ONE_OBJECT, if_absent=True)
    await stage.work_until_lost(upload, AtCommit.HOLD)
    await failed(stage, upload)
    await stage.world.sweeper.sweep()
    assert not stage.world.files()
    rows = stage.backend.rows()
    await stage.backend.proxy.deliver()
    assert stage.backend.rows() == rows


@pytest.mark.rule(13, 25)
async def test_late_packet_during_cleanup_leaves_no_dangling_node(
    stage: Stage,
) -> None:
    upload = await stage.world.upload(ONE_OBJECT)
    await stage.work_until_lost(upload, AtCommit.HOLD)
    await fail_with_damage(stage, upload)
    stage.world.objects.on_call["delete"] = stage.backend.proxy.deliver
    await stage.world.sweeper.sweep()
    assert not stage.world.files()
    assert stage.backend.rows()["nodes"] == []


# -- intents


@pytest.mark.rule(13, 25)
@pytest.mark.usefixtures("step_by_step")
async def test_clearing_intent_waits_for_running_commit(
    backend: Backend, catalogue: SqlCatalogue, proxied: str
) -> None:
    upload, proxy = finished_upload("a"), backend.proxy
    await catalogue.record_intent(intent_of(upload))
    async with open_catalogue(proxied) as remote, asyncio.TaskGroup() as group:
        proxy.at_commit = AtCommit.HOLD
        group.create_task(remote.commit_node(upload))
        await proxy.commits_seen.acquire()
        clearing = group.create_task(catalogue.clear_intent(upload.upload_id))
        while await asyncio.to_thread(backend.server.lock_waits) == 0:  # noqa: ASYNC110 - theirs
            await asyncio.sleep(0.02)
        assert not clearing.done()
        assert not await catalogue.is_object_live(upload.object)
        proxy.go_on()
        await clearing
        assert await catalogue.is_object_live(upload.object)


@pytest.mark.rule(13)
async def test_late_intent_of_completed_upload_is_swept(stage: Stage) -> None:
    upload = await stage.world.upload(ONE_OBJECT)
    await stage.work_until_lost(upload, AtCommit.HOLD, INTENT)
    await stage.assert_finished_by_another(upload)
    await stage.backend.proxy.deliver()
    assert len(stage.backend.rows()["object_intents"]) == 1
    await stage.assert_whole_after_sweep(upload)
