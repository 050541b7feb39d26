"""A commit is one packet (ADR 0011), and whoever sent it is gone before it is answered.

What the server does depends on where the packet was then. A proxy says where: cut off before its
last byte, delivered and not answered, or held until everything else is over.
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
STORY = ["UploadInitiated", "UploadCompleted"]
SECONDS = 20.0
"""By then anything has happened, on the busiest machine too."""

Rows = dict[str, list[tuple[object, ...]]]


@dataclass(frozen=True, slots=True)
class Backend:
    """One database, and the proxy before it."""

    server: MysqlServer
    name: str
    proxy: MysqlProxy

    def rows(self) -> Rows:
        """Every row of every table."""
        return {
            table: self.server.run(f"SELECT * FROM {self.name}.{table} ORDER BY 1, 2")
            for table in metadata.tables
        }

    def lock_waits(self) -> object:
        """How often a transaction has ever waited for a row."""
        return self.server.run("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'")

    async def cut_off(self) -> None:
        """The server has noticed that nobody is behind the proxy any more."""
        query = "SELECT host FROM information_schema.processlist"
        ends = {f"127.0.0.1:{port}" for port in self.proxy.upstream_ports}
        async with asyncio.timeout(SECONDS):
            while ends & {str(host) for (host,) in self.server.run(query)}:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.fixture
def backend(url: str, proxy: MysqlProxy, server: MysqlServer) -> Backend:
    return Backend(server, url.rpartition("/")[2], proxy)


# -- what there is of a packet (b)


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
async def test_a_packet_that_is_there_in_part_is_not_begun(
    backend: Backend, catalogue: SqlCatalogue, proxied: str, first_bytes: int
) -> None:
    """Not one of its statements, and no lock is taken: the rest comes, and all of it is done."""
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
async def test_a_packet_whose_rest_never_comes_is_nothing(
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
    await backend.cut_off()
    assert backend.rows() == before
    assert await catalogue.commit_node(upload) == CommitOutcome(created=True)
    rows = backend.rows()
    assert [len(rows[table]) for table in ("nodes", "paths", "outbox")] == [1, 1, 1]
    assert rows["object_intents"] == []


# -- an upload that two workers commit


@dataclass(frozen=True, slots=True)
class Stage:
    """Two repositories on one ledger and one catalogue; `remote` reaches it by the proxy."""

    world: World
    remote: RepositoryDeps
    backend: Backend
    fences: list[Any]
    """Of the completions that were claimed, in order."""

    async def lost(self, upload: Upload, fault: AtCommit, packet: bytes = NODE) -> None:
        """The repository behind the proxy takes the upload as far as such a packet, and hears
        nothing of it; when nothing comes at all it is stopped, and lets go of its connection."""
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
        """What the outbox says of the upload's node, before anybody publishes it."""
        rows = [row.event for row in await self.world.catalogue.outbox(1_000)]
        return [one.type.rpartition(".")[2] for one in rows if one.key == upload.new.node_id]

    async def taken_over(self, upload: Upload) -> UploadStatus:
        """The other repository does what there is to do."""
        await _hint(self.world.deps)
        await self.world.work()
        return await self.world.status(upload)

    async def finished_by_another(self, upload: Upload) -> None:
        """There is one of everything that there should be one of."""
        assert await self.taken_over(upload) is UploadStatus.COMPLETED
        rows = self.backend.rows()
        assert [len(rows[table]) for table in ("nodes", "paths")] == [1, 1]
        assert rows["object_intents"] == rows["object_deletions"] == []
        assert await self.events(upload) == STORY

    async def whole_in_the_end(self, upload: Upload) -> None:
        """Long after, when all is swept and published."""
        world = self.world
        await world.settle(60)
        world.clock.advance(2 * HOUR)
        await world.settle(60)
        await world.assert_whole(upload)
        assert world.publisher.types(upload.new.node_id) == STORY
        assert (await world.orphans()).none()
        assert self.backend.rows()["object_intents"] == []


async def _hint(deps: RepositoryDeps) -> None:
    """At what the ledger knows to be ready, as a sweeper does."""
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

        async def claimed(*arguments: Any) -> Any:
            claim = await claim_completion(*arguments)
            if claim is not None:
                fences.append(claim.fence)
            return claim

        monkeypatch.setattr(world.deps.ledger, "claim_completion", claimed)
        deps = replace(world.deps, catalogue=remote, holder="behind the proxy")
        yield Stage(world, deps, backend, fences)


BOTH_WAYS = pytest.mark.parametrize("chunks", [ONE_OBJECT, IN_PARTS], ids=["one", "in parts"])


@pytest.mark.rule(18, 19)
@BOTH_WAYS
@pytest.mark.parametrize(
    ("fault", "committed"),
    [
        pytest.param(AtCommit.LOSE_REQUEST, False, id="all but its last byte was there"),
        pytest.param(AtCommit.LOSE_ANSWER, True, id="all of it was there"),
    ],
)
async def test_another_worker_finishes_what_the_first_one_heard_nothing_of(
    stage: Stage, fault: AtCommit, committed: bool, chunks: Sequence[bytes]
) -> None:
    upload = await stage.world.upload(chunks)
    stage.backend.proxy.first_bytes = -1
    await stage.lost(upload, fault)
    await stage.backend.cut_off()
    rows = stage.backend.rows()
    assert len(rows["nodes"]) == len(rows["paths"]) == committed
    assert len(rows["object_intents"]) == (not committed)
    assert await stage.events(upload) == (STORY if committed else [])
    await stage.finished_by_another(upload)
    await stage.whole_in_the_end(upload)


@pytest.mark.rule(18, 19)
@BOTH_WAYS
async def test_a_packet_that_comes_when_another_worker_has_finished_changes_nothing(
    stage: Stage, chunks: Sequence[bytes]
) -> None:
    upload = await stage.world.upload(chunks)
    await stage.lost(upload, AtCommit.HOLD)
    await stage.finished_by_another(upload)
    early, late = stage.fences
    assert early.counter < late.counter
    rows = stage.backend.rows()
    await stage.backend.proxy.deliver()
    assert stage.backend.rows() == rows
    await stage.whole_in_the_end(upload)


@pytest.mark.rule(19, 26)
async def test_a_packet_that_comes_after_the_node_was_deleted_does_not_bring_it_back(
    stage: Stage,
) -> None:
    upload = await stage.world.upload(ONE_OBJECT)
    await stage.lost(upload, AtCommit.HOLD)
    await stage.finished_by_another(upload)
    await stage.world.catalogue.delete_node(TENANT, upload.new.node_id)
    rows = stage.backend.rows()
    await stage.backend.proxy.deliver()
    assert stage.backend.rows() == rows


# -- an upload that has failed meanwhile


async def damaged(stage: Stage, upload: Upload) -> None:
    """The store says that it has lost bytes of the object."""
    lost = DataLoss("OBJECT_DAMAGED", "The stored bytes are damaged.")
    stage.world.objects.before["head"] = [lost]
    assert await stage.taken_over(upload) is UploadStatus.FAILED


async def overtaken(stage: Stage, upload: Upload) -> None:
    """Another upload takes the path that had to be free, and its node is deleted."""
    other = finished_upload(upload.new.path)
    await stage.world.catalogue.commit_node(other)
    assert await stage.taken_over(upload) is UploadStatus.FAILED
    await stage.world.catalogue.delete_node(TENANT, other.node_id)


@pytest.mark.rule(13, 19, 25)
@pytest.mark.parametrize("failed", [damaged, overtaken])
async def test_a_packet_that_comes_when_its_upload_has_failed_makes_no_node(
    stage: Stage, failed: Any
) -> None:
    """Its object is gone; what the sweeper took with it was the packet's leave to make a node."""
    upload = await stage.world.upload(ONE_OBJECT, if_absent=True)
    await stage.lost(upload, AtCommit.HOLD)
    await failed(stage, upload)
    await stage.world.sweeper.sweep()
    assert not stage.world.files()
    rows = stage.backend.rows()
    await stage.backend.proxy.deliver()
    assert stage.backend.rows() == rows


@pytest.mark.rule(13, 25)
async def test_a_packet_that_comes_while_its_upload_is_cleaned_up_makes_no_node_without_an_object(
    stage: Stage,
) -> None:
    upload = await stage.world.upload(ONE_OBJECT)
    await stage.lost(upload, AtCommit.HOLD)
    await damaged(stage, upload)
    stage.world.objects.on_call["delete"] = stage.backend.proxy.deliver
    await stage.world.sweeper.sweep()
    assert not stage.world.files()
    assert stage.backend.rows()["nodes"] == []


# -- an intent


@pytest.mark.rule(13, 25)
@pytest.mark.usefixtures("step_by_step")
async def test_an_intent_cannot_be_cleared_before_a_commit_that_is_under_way_is_over(
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
        proxy.resume()
        await clearing
        assert await catalogue.is_object_live(upload.object)


@pytest.mark.rule(13)
async def test_an_intent_that_comes_when_its_upload_is_completed_is_swept(stage: Stage) -> None:
    upload = await stage.world.upload(ONE_OBJECT)
    await stage.lost(upload, AtCommit.HOLD, INTENT)
    await stage.finished_by_another(upload)
    await stage.backend.proxy.deliver()
    assert len(stage.backend.rows()["object_intents"]) == 1
    await stage.whole_in_the_end(upload)
