"""The whole story of one upload, from every backend that knows something of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sluice_core.errors import DataLoss, NotFound, SluiceError, Unavailable
from sluice_core.ports import LedgerEvent, QueueDepth
from sluice_core.ports.inspection import (
    InspectedNode,
    InspectedOutboxRow,
    InspectedPart,
    InspectedUpload,
    PartState,
)
from sluice_core.ports.object_store import ObjectInfo
from sluice_core.uploads.ids import direct_upload_id, nonce_of
from sluice_core.uploads.model import MIB, ChunkRef, PartPlan
from sluice_repository.admin.backends import AdminBackends

MAX_EVENTS: Final = 100
MAX_STAGED_BYTES: Final = 64 * MIB
"""Of chunks that are read back, so that a look at an upload costs no more than one part."""

_PAGE: Final = 500
_CALL_SECONDS: Final = 30.0
_DIRECT: Final = nonce_of(direct_upload_id(""))


@dataclass(slots=True)
class Parts:
    """The parts of an upload, and their numbers by what happens with them."""

    listed: list[InspectedPart] = field(default_factory=list)
    stored: int = 0
    filling: int = 0
    leased: list[InspectedPart] = field(default_factory=list)
    waiting: int = 0
    """Ready, and no worker has them now."""
    first_waiting: InspectedPart | None = None

    def add(self, part: InspectedPart, now: float) -> None:
        self.listed.append(part)
        if part.state is PartState.STORED:
            self.stored += 1
        elif part.state is PartState.FILLING:
            self.filling += 1
        elif part.lease is not None and part.lease.until > now:
            self.leased.append(part)
        else:
            self.waiting += 1
            self.first_waiting = self.first_waiting or part


@dataclass(slots=True)
class Staged:
    """Chunks of ready parts, as the chunk store returned them."""

    chunks: int = 0
    bytes: int = 0
    lost: list[int] = field(default_factory=list)
    """Numbers of those that are missing or damaged."""
    is_complete: bool = True
    """False when there were more of them than are read back."""


@dataclass(slots=True)
class Story:
    """What is known of one upload. None stands for nothing known."""

    upload_id: str
    nonce: str
    has_catalogue: bool
    upload: InspectedUpload | None = None
    parts: Parts = field(default_factory=Parts)
    staged: Staged | None = None
    queue: QueueDepth | None = None
    ledger_events: Sequence[LedgerEvent] = ()
    node: InspectedNode | None = None
    outbox: Sequence[InspectedOutboxRow] = ()
    object: ObjectInfo | None = None
    multiparts: Sequence[str] = ()
    failures: dict[str, str] = field(default_factory=dict)
    """By the backend that did not answer or refused: why."""
    away: set[str] = field(default_factory=set)
    """Those of them that did not answer."""
    keeps_objects: bool = True
    has_sweeper: bool = False
    """Its server has the queue to itself, and lets no other process sweep."""


async def tell(backends: AdminBackends, upload_id: str) -> Story:
    """Return the story. A backend that fails now is named in it and hides no other one; those that
    cannot be opened have ended the command before."""
    story = Story(
        upload_id,
        backends.ledger.nonce,
        backends.catalogue is not None,
        keeps_objects=backends.keeps_objects,
        has_sweeper=backends.queue is None,
    )
    for name, look in (
        ("ledger", _ledger),
        ("chunks", _chunks),
        ("queue", _queue),
        ("catalogue", _catalogue),
        ("objects", _objects),
    ):
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await look(backends, story)
        except SluiceError as error:
            story.failures[name] = error.operator_message
            if isinstance(error, Unavailable):
                story.away.add(name)
        except TimeoutError:
            story.away.add(name)
            story.failures[name] = f"no answer within {_CALL_SECONDS:.0f} s"
    return story


async def _ledger(backends: AdminBackends, story: Story) -> None:
    try:
        story.upload = await backends.ledger.inspect(story.upload_id)
    except NotFound:
        return
    after = 0
    while page := await backends.ledger.inspect_parts(story.upload_id, after, _PAGE):
        for part in page:
            story.parts.add(part, story.upload.now)
        after = page[-1].number
    events = await backends.ledger.upload_events(story.upload_id)
    story.ledger_events = events[:MAX_EVENTS]


async def _chunks(backends: AdminBackends, story: Story) -> None:
    """Read the chunks of parts that wait back: a lost one keeps its part from being stored."""
    chunks = backends.chunks
    if story.upload is None or story.upload.snapshot.ended_at is not None or chunks is None:
        return
    staged = story.staged = Staged()
    for part in story.parts.listed:
        if part.state is not PartState.READY:
            continue
        plan = PartPlan(part.number, part.first_chunk, part.last_chunk)
        after = part.first_chunk - 1
        while page := await backends.ledger.part_chunks(story.upload_id, plan, after, _PAGE):
            for chunk in page:
                if staged.bytes + chunk.size > MAX_STAGED_BYTES:
                    staged.is_complete = False
                    return
                await _read_back(backends, story.upload_id, plan, chunk, staged)
            after = page[-1].number


async def _read_back(
    backends: AdminBackends, upload_id: str, plan: PartPlan, chunk: ChunkRef, staged: Staged
) -> None:
    assert backends.chunks is not None
    staged.chunks += 1
    staged.bytes += chunk.size
    try:
        async for _ in backends.chunks.read(upload_id, chunk):
            pass
    except DataLoss:
        if await _is_still_needed(backends, upload_id, plan, chunk):
            staged.lost.append(chunk.number)


async def _is_still_needed(
    backends: AdminBackends, upload_id: str, plan: PartPlan, chunk: ChunkRef
) -> bool:
    """Return whether the ledger counts on these bytes now: a worker records a part as stored, or an
    upload as ended, before it drops the chunks."""
    try:
        upload = await backends.ledger.inspect(upload_id)
        parts = await backends.ledger.inspect_parts(upload_id, plan.number - 1, 1)
        page = await backends.ledger.part_chunks(upload_id, plan, chunk.number - 1, 1)
    except NotFound:
        return False
    is_ready = any(part.number == plan.number and part.state is PartState.READY for part in parts)
    return upload.snapshot.ended_at is None and is_ready and chunk in page


async def _queue(backends: AdminBackends, story: Story) -> None:
    if backends.queue is not None:
        story.queue = await backends.queue.depth()


async def _catalogue(backends: AdminBackends, story: Story) -> None:
    node_id = _node_id(story)
    if backends.catalogue is None or node_id is None:
        return
    story.node = await backends.catalogue.inspect_node(node_id)
    story.outbox = await backends.catalogue.outbox_of(node_id, MAX_EVENTS)


async def _objects(backends: AdminBackends, story: Story) -> None:
    if story.upload is None:
        return
    ref = story.upload.snapshot.new.object
    try:
        story.object = await backends.objects.head(ref)
        story.multiparts = await backends.objects.open_multiparts(ref)
    except NotFound:
        return  # no bucket, and so no object


def _node_id(story: Story) -> str | None:
    if story.upload is not None:
        return story.upload.snapshot.new.node_id
    nonce, _, rest = story.upload_id.partition("-")
    return rest if nonce == _DIRECT else None
