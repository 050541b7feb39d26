"""The repository's roles on embedded adapters, driven step by step on a fake clock."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sluice_backends.files.store import FileObjectStore
from sluice_backends.memory.chunks import MemoryChunkStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.memory.queue import InProcessQueue
from sluice_backends.sql.catalogue import open_catalogue
from sluice_core.errors import Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import ChunkOffer, Completion, WorkItem, WorkKind
from sluice_core.ports.catalogue import Catalogue, DrivePolicy, Node
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.ids import new_node_id, new_token, new_upload_id
from sluice_core.uploads.model import Integrity, NewUpload, ObjectRef, UploadSnapshot, UploadStatus
from sluice_repository.deps import RepositoryDeps
from sluice_repository.metrics import RepositoryMetrics
from sluice_repository.options import RepositoryOptions
from sluice_repository.roles.completer import Completer
from sluice_repository.roles.parts import PartStorer
from sluice_repository.roles.relay import Relay
from sluice_repository.roles.sweeper import Sweeper
from sluice_repository.roles.verifier import Verifier
from sluice_repository.work.queue_worker import QueueWorker
from support.catalogue_files import empty_catalogue
from support.faulty_objects import FaultyObjects
from support.orphans import Orphans, find_orphans

TENANT = "acme"
DRIVE = "photos"
BUCKET = "sluice"
PART_BYTES = 1_000
HOUR = 3600.0


class Clock:
    """A clock in seconds since the epoch that moves only by `advance`."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class RecordingPublisher:
    """An `EventPublisher` that records events in order and can be unavailable.

    It raises Unavailable `away` times; with `lossy_answer` it records the events all the same.
    """

    def __init__(self) -> None:
        self.events: list[EventRecord] = []
        self.away = 0
        self.lossy_answer = False

    async def publish(self, events: Sequence[EventRecord]) -> None:
        if self.away == 0 or self.lossy_answer:
            self.events += events
        if self.away > 0:
            self.away -= 1
            raise Unavailable("PUBLISHER_UNAVAILABLE", "The broker is away; try again.")

    def types(self, node_id: str) -> list[str]:
        """Return the types of a node's events in order of their first occurrence."""
        seen = {e.event_id: e.type.rpartition(".")[2] for e in self.events if e.key == node_id}
        return list(seen.values())


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload of the test's client: its parameters and chunks."""

    new: NewUpload
    chunks: tuple[bytes, ...]

    @property
    def id(self) -> str:
        return self.new.upload_id

    @property
    def content(self) -> bytes:
        return b"".join(self.chunks)


# Size: one short method for each thing that a client, a process or a test does.
class World:
    """All ports of one machine, and the processes that a test runs and kills on them.

    Time advances only when a test says so, processes die at crash points (`crashes.py`), and the
    object store fails on demand (`faulty_objects.py`). `orphans` finds unreferenced data.
    """

    def __init__(
        self, deps: RepositoryDeps, clock: Clock, root: Path, publisher: RecordingPublisher
    ) -> None:
        self.deps = deps
        self.clock = clock
        self.publisher = publisher
        self.uploads: dict[str, Upload] = {}
        self._root = root
        self._boots = 0
        self.boot()

    def boot(self) -> None:
        """Start a new process: only the content of ledger, stores and catalogue remains.

        The memory adapters stand in for durable ones.
        """
        self._boots += 1
        self.deps = replace(
            self.deps,
            queue=InProcessQueue(clock=self.clock),
            holder=f"process-{self._boots}",
        )
        self.storer = PartStorer(self.deps)
        self.completer = Completer(self.deps)
        self.sweeper = Sweeper(self.deps)
        self.relay = Relay(self.deps)
        self.part_worker = QueueWorker(self.deps, self.storer, "parts-0")
        self.completion_worker = QueueWorker(self.deps, self.completer, "completer-0")

    @property
    def objects(self) -> FaultyObjects:
        assert isinstance(self.deps.objects, FaultyObjects)
        return self.deps.objects

    @property
    def catalogue(self) -> Catalogue:
        assert self.deps.catalogue is not None
        return self.deps.catalogue

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.deps, self.catalogue)

    # -- the client's side

    async def begin(self, chunks: Sequence[bytes], path: str = "a.bin", **settled: Any) -> Upload:
        """Initiate an upload of these chunks; `settled` are fields of its NewUpload."""
        return await self.open(self.new_upload(path, **settled), chunks)

    def new_upload(self, path: str = "a.bin", **settled: Any) -> NewUpload:
        """Return an upload that the ledger does not know yet."""
        node_id = new_node_id()
        new = NewUpload(
            upload_id=new_upload_id(self.deps.ledger.nonce, TENANT, ""),
            node_id=node_id,
            tenant=TENANT,
            subject="tester",
            drive=DRIVE,
            path=path,
            content_type="application/octet-stream",
            fingerprint="f",
            object=ObjectRef(BUCKET, f"{TENANT}/{DRIVE}/{node_id}"),
            part_bytes=PART_BYTES,
        )
        return replace(new, **settled)

    async def open(self, new: NewUpload, chunks: Sequence[bytes]) -> Upload:
        await self.deps.ledger.create(new)
        upload = Upload(new, tuple(chunks))
        self.uploads[upload.id] = upload
        return upload

    async def send(self, upload: Upload, number: int) -> None:
        """Stage and accept one chunk as the intake does, and queue the work that becomes ready."""
        data = upload.chunks[number]
        offer = ChunkOffer(upload.id, number, len(data), new_token())
        admission = await self.deps.ledger.admit_chunk(offer)
        assert admission.granted, admission
        async with self.deps.chunks.stage(offer) as staged:
            if data:
                await staged.append(data)
            await staged.seal()
        accepted = await self.deps.ledger.accept_chunk(offer, crc32c(data))
        await self.deps.chunks.drop(upload.id, accepted.drop_tokens)
        await self._queue(
            Completion(accepted.snapshot, accepted.ready_parts, accepted.completion_ready)
        )

    async def complete(self, upload: Upload, **claims: Any) -> None:
        """Request completion as the intake does."""
        completion = await self.deps.ledger.request_completion(
            upload.id,
            len(upload.chunks),
            claims.get("sha256"),
            claims.get("crc32c"),
        )
        await self._queue(completion)

    async def upload(self, chunks: Sequence[bytes], path: str = "a.bin", **settled: Any) -> Upload:
        """Send and complete a whole upload; the roles have not run yet."""
        upload = await self.begin(chunks, path, **settled)
        for number in range(len(chunks)):
            await self.send(upload, number)
        await self.complete(upload)
        return upload

    async def resend_missing(self, upload: Upload) -> list[int]:
        """Send the chunks of the missing ranges, as a client does, and return their numbers."""
        missing = await self.deps.ledger.missing_chunks(upload.id, 1_000)
        numbers = [n for r in missing.ranges for n in range(r.first, r.last + 1)]
        for number in numbers:
            await self.send(upload, number)
        if numbers:
            await self.complete(upload)
        return numbers

    async def _queue(self, completion: Completion) -> None:
        new = completion.snapshot.new
        for number in completion.ready_parts:
            await self.deps.queue.put(WorkItem(WorkKind.PART, new.upload_id, new.tenant, number))
        if completion.completion_ready:
            await self.deps.queue.put(WorkItem(WorkKind.COMPLETION, new.upload_id, new.tenant))

    # -- running

    async def work(self) -> None:
        """Run both kinds of workers until the queue is empty."""
        while await self.part_worker.work_one(0) or await self.completion_worker.work_one(0):
            pass

    async def settle(self, seconds: float = 120.0, *, step: float = 10.0) -> None:
        """Sweep and work while `seconds` pass in steps; then sweep and relay."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            await self.sweeper.sweep()
            await self.work()
            self.clock.advance(step)
        await self.sweeper.sweep()
        while await self.relay.relay_once():
            pass

    async def status(self, upload: Upload) -> UploadStatus:
        return (await self.snapshot(upload)).status

    async def snapshot(self, upload: Upload) -> UploadSnapshot:
        return await self.deps.ledger.get(upload.id)

    async def node(self, upload: Upload) -> Node:
        return await self.catalogue.get_node(TENANT, upload.new.node_id)

    async def stored_bytes(self, upload: Upload) -> bytes:
        """Return the object's bytes."""
        ref = upload.new.object
        return b"".join([b async for b in self.deps.objects.read(ref, 0, 1 << 40)])

    # -- assertions

    async def assert_whole(self, upload: Upload) -> Node | None:
        """Assert that the upload is COMPLETED with the right bytes and one UploadCompleted.

        Return its node; None without a catalogue.
        """
        assert await self.status(upload) is UploadStatus.COMPLETED
        assert await self.stored_bytes(upload) == upload.content
        completed = {
            e.event_id
            for e in self.publisher.events
            if e.key == upload.new.node_id and e.type.endswith(".UploadCompleted")
        }
        assert len(completed) == 1
        if self.deps.catalogue is None:
            return None
        node = await self.node(upload)
        assert (node.size, node.crc32c) == (len(upload.content), crc32c(upload.content))
        assert node.sha256 in (None, hashlib.sha256(upload.content).digest())
        return node

    async def orphans(self) -> Orphans:
        """Return everything that no live upload or node references."""
        uploads = [upload.new for upload in self.uploads.values()]
        return await find_orphans(self.deps, uploads, self.clock.now)

    def counted(self, name: str, **labels: str) -> float:
        """Return the value of a metric's sample; 0 if it was never set."""
        return self.deps.metrics.registry.get_sample_value(name, labels) or 0.0

    def outcomes(self, name: str = "sluice_parts") -> dict[str, int]:
        """Return the count of each outcome of parts (or of sluice_completions)."""
        return {
            sample.labels["outcome"]: int(sample.value)
            for metric in self.deps.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == f"{name}_total"
        }

    def files(self) -> list[str]:
        """Return every file of the object store, sorted."""
        return sorted(str(p.relative_to(self._root)) for p in self._root.rglob("*") if p.is_file())


@asynccontextmanager
async def small_world(
    root: Path,
    *,
    with_catalogue: bool = True,
    integrity: Integrity = Integrity.SHA256_ASYNC,
    ledger_options: LedgerOptions | None = None,
    options: RepositoryOptions | None = None,
    catalogue_url: str = "",
) -> AsyncIterator[World]:
    """Open a world on embedded adapters in `root`, with tiny parts and a fake clock.

    `catalogue_url` selects another catalogue, which has to be migrated.
    """
    clock = Clock()
    publisher = RecordingPublisher()
    # Chunks in any order: the look-ahead limit has its own tests.
    given = ledger_options or LedgerOptions(look_ahead_parts=1_000_000)
    ledger = MemoryLedger(replace(given, emit_completed=not with_catalogue), clock)
    async with FileObjectStore(root / "objects", fsync=False, min_part_bytes=1) as objects:
        await objects.check(BUCKET)
        deps = RepositoryDeps(
            ledger=ledger,
            chunks=MemoryChunkStore(clock),
            queue=InProcessQueue(clock=clock),
            objects=FaultyObjects(objects),
            catalogue=None,
            publisher=publisher,
            metrics=RepositoryMetrics(),
            holder="unset",
            options=options or RepositoryOptions(retry_base_seconds=0.01, retry_cap_seconds=0.02),
            clock=clock,
        )
        if not with_catalogue:
            yield World(deps, clock, root / "objects", publisher)
            return
        url = catalogue_url or await empty_catalogue(root)
        async with open_catalogue(url, clock=clock) as catalogue:
            await catalogue.create_drive(
                TENANT, DRIVE, BUCKET, "", DrivePolicy(integrity=integrity)
            )
            yield World(replace(deps, catalogue=catalogue), clock, root / "objects", publisher)


def pieces(total: int, size: int) -> list[bytes]:
    """Return `total` bytes without repeated blocks, cut into chunks of `size`."""
    data = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(total // 32 + 1))
    return [data[start : min(start + size, total)] for start in range(0, total, size)] or [b""]
