"""The one handler behind every source of work: a node goes in, its result is in the catalogue.

Idempotent by (node id, ETag): it may be called any number of times for one node, by any number of
processes, and may die anywhere. Thumbnails are announced before they are written, so that they
are deleted with the node whatever happens to whoever writes them; their keys follow from the
content, so that a repeat writes the same ones; and the catalogue takes one result per content.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sluice_common.telemetry.tracing import current_traceparent, span
from sluice_core.catalogue.processing import (
    NodeResult,
    Processing,
    ProcessingState,
    Recorded,
    Thumbnail,
)
from sluice_core.errors import Aborted, FailedPrecondition, NotFound, SluiceError, Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.catalogue import Candidate, Drive, Node
from sluice_core.ports.object_store import ObjectAttributes, ObjectInfo
from sluice_processor.deps import ProcessorDeps
from sluice_processor.images import model
from sluice_processor.images.model import RefusalReason
from sluice_processor.nodes.adoption import Adopter, Adoption
from sluice_processor.nodes.batching import Gathering
from sluice_processor.nodes.examination import MAY_PASS_LATER, Examiner, Finding
from sluice_processor.nodes.keys import Place, thumbnail_ref
from sluice_processor.nodes.stages import Stage, staged

_log = structlog.get_logger(__name__)
TRIED_LATER: Final = frozenset(
    {RefusalReason.TIMEOUT.value, "HANDLER_TIMEOUT", "DECODER_UNAVAILABLE"}
)
"""Reasons that a busy machine may have: sources try again later before they give up for good."""
_MAX_DETAIL_CHARACTERS: Final = 500

PROCESSED: Final = "processed"
FAILED: Final = "failed"
REPEATED: Final = "repeated"
GONE: Final = "gone"
ADOPTED: Final = "adopted"
ANNOUNCED: Final = "announced"
IGNORED: Final = "ignored"
POSTPONED: Final = "postponed"
"""Outcomes, as the metrics name them."""


@dataclass(frozen=True, slots=True)
class Work:
    """A node to look at, and where the wish came from.

    `place` is set where only the object was told of: its node may not be there yet, and the tenant,
    empty here, is that of the drive in whose place the object lies.
    """

    tenant: str
    node_id: str
    trace_parent: str = ""
    since: float | None = None
    """When there was something to look at, in seconds since the epoch."""
    place: Place | None = None
    is_final: bool = True
    """Whether a TIMEOUT is recorded; otherwise the source tries again later."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a piece of work."""

    kind: str
    reason: str = ""


class NodeProcessor:
    """Processes nodes; any number of them at once."""

    def __init__(self, deps: ProcessorDeps) -> None:
        self._deps = deps
        self._examiner = Examiner(deps)
        self._adopter = Adopter(deps)
        self._candidates: Gathering[str, Candidate | None] = Gathering(
            self._candidates_of, lambda node_id: node_id
        )
        self._results: Gathering[NodeResult, Recorded] = Gathering(
            deps.catalogue.record_all_processed, lambda result: result.node_id
        )

    async def process(self, work: Work) -> Outcome:
        """Look at a node and record what was found; returns what became of it.

        Raises `SluiceError`: a retryable one for what may work later, `FailedPrecondition`
        with one of `MAY_PASS_LATER`, e.g. for a picture that its child did not survive: such a
        node is marked as FAILED, and is looked at again when somebody asks again. After a TIMEOUT
        of work that is not final it is not marked.
        """
        metrics = self._deps.metrics
        with (
            metrics.processor_in_flight.track_inprogress(),
            span("processor node", work.trace_parent, node_id=work.node_id),
        ):
            outcome = await self._guarded(work)
        metrics.processor_nodes.labels(outcome.kind, outcome.reason).inc()
        if outcome.kind in (PROCESSED, FAILED) and work.since is not None:
            metrics.processor_delay_seconds.observe(max(0.0, time.time() - work.since))
        if outcome.kind == POSTPONED:
            raise FailedPrecondition(outcome.reason, "There was no time for the node; try later.")
        if outcome.kind == FAILED:
            _log.info("node_failed", node_id=work.node_id, reason=outcome.reason)
            if outcome.reason in MAY_PASS_LATER:
                raise FailedPrecondition(
                    outcome.reason, "The node could not be looked at; it is marked as failed."
                )
        return outcome

    async def _guarded(self, work: Work) -> Outcome:
        """Keep the text of an unexpected error from logs, traces and dead letters: it may quote
        anything, where a picture was taken too. Its type and place are enough to find the defect.
        """
        try:
            return await self._process(work)
        except SluiceError:
            raise
        except Exception as error:  # noqa: BLE001 - told below
            kind, frames = type(error).__name__, traceback.extract_tb(error.__traceback__)
        where = [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in frames]
        _log.error("handler_broke", node_id=work.node_id, error=kind, where=where)
        raise Unavailable(
            "HANDLER_FAILED", f"A {kind} in the processor: a defect, please report it."
        )

    async def _process(self, work: Work) -> Outcome:
        catalogue, objects = self._deps.catalogue, self._deps.objects
        candidate = await self._candidates.call(work.node_id)
        if candidate is None and work.place is not None:
            without = await self._adopted(work.place)
            if without is not None:
                return without
            candidate = await self._candidates.call(work.node_id)
        if candidate is None or not _is_meant(work, candidate.node):
            return Outcome(GONE)
        node = candidate.node
        info = await objects.head(node.object)
        if info is None:
            return await self._missing(node)
        if candidate.etag == info.etag and candidate.reason not in MAY_PASS_LATER:
            return Outcome(REPEATED)
        finding = await self._examiner.examine(node, info)
        if finding.reason == RefusalReason.TIMEOUT and not work.is_final:
            return Outcome(POSTPONED, finding.reason)
        thumbnails: tuple[Thumbnail, ...] = ()
        with staged(self._deps.metrics, Stage.WRITE):
            if finding.image is not None and finding.image.thumbnails:
                drive = await catalogue.get_drive(node.tenant, node.drive)
                written = await self._write(node, drive, info.etag, finding.image)
                if written is None:
                    return Outcome(GONE)
                thumbnails = written
            if finding.sha256 is None or finding.image is not None:
                await self._check_unchanged(node, info)
            recorded = await self._results.call(
                NodeResult(
                    node.tenant,
                    node.node_id,
                    _processing(info.etag, finding, thumbnails),
                    sha256=finding.sha256,
                    trace_parent=current_traceparent() or work.trace_parent,
                )
            )
        return self._outcome(node, finding, recorded)

    async def _adopted(self, place: Place) -> Outcome | None:
        """Have a node made of an object; None when it is to be looked at now.

        Where events follow, that of the new node is work of its own: to look at the node here too
        would be to do most of it twice.
        """
        adoption = await self._adopter.adopt(place)
        match adoption:
            case Adoption.ADOPTED if self._deps.options.events_follow:
                return Outcome(ADOPTED)
            case Adoption.ADOPTED | Adoption.KNOWN:
                return None
            case Adoption.GONE:
                return Outcome(GONE)
            case Adoption.ANNOUNCED if self._deps.options.events_follow:
                return Outcome(ANNOUNCED)
            case Adoption.ANNOUNCED:
                raise Aborted(
                    "UPLOAD_UNDER_WAY", "The upload that brought the object has not ended yet."
                )
        return Outcome(IGNORED, adoption.value)

    async def _candidates_of(self, node_ids: Sequence[str]) -> Sequence[Candidate | None]:
        found = await self._deps.catalogue.candidates(node_ids)
        return [found.get(node_id) for node_id in node_ids]

    async def _check_unchanged(self, node: Node, info: ObjectInfo) -> None:
        """Not needed where all that is told is that the bytes are those of the node: they were
        read after `info`, whose ETag is no other content's then."""
        again = await self._deps.objects.head(node.object)
        if again is None or again.etag != info.etag:
            raise Aborted(
                "OBJECT_CHANGED", "The object was replaced while it was read; look again."
            )

    def _outcome(self, node: Node, finding: Finding, recorded: Recorded) -> Outcome:
        if recorded is Recorded.GONE:
            return Outcome(GONE)
        if finding.reason:
            # A repeat too: whoever asked for another try has to hear how it went.
            return Outcome(FAILED, finding.reason)
        if recorded is Recorded.REPEATED:
            return Outcome(REPEATED)
        if node.sha256 is None and finding.sha256 is not None:
            self._deps.metrics.verified.inc()
        return Outcome(PROCESSED)

    async def _missing(self, node: Node) -> Outcome:
        """The object is not there: its node ended a moment ago, or it was lost."""
        try:
            await self._deps.catalogue.get_node(node.tenant, node.node_id)
        except NotFound:
            return Outcome(GONE)
        raise Unavailable(
            "OBJECT_MISSING", "The object of the node is not in the store; restore it from a copy."
        )

    async def _write(
        self, node: Node, drive: Drive, etag: str, image: model.ProcessedImage
    ) -> tuple[Thumbnail, ...] | None:
        """Store the thumbnails; None when the node is gone."""
        refs = [
            thumbnail_ref(node, drive.key_prefix, etag, one.size, one.format)
            for one in image.thumbnails
        ]
        if not await self._deps.catalogue.announce_thumbnails(node.node_id, refs):
            return None
        written: list[Thumbnail] = []
        for ref, one in zip(refs, image.thumbnails, strict=True):
            body = BytesBody(one.data)
            attributes = ObjectAttributes(
                content_type=one.format.media_type, encryption=drive.policy.encryption
            )
            info = await self._deps.objects.put(ref, body, attributes)
            written.append(
                Thumbnail(
                    size=one.size,
                    width=one.width,
                    height=one.height,
                    content_type=one.format.media_type,
                    size_bytes=body.size,
                    crc32c=body.crc32c,
                    etag=info.etag,
                    object=ref,
                )
            )
        return tuple(written)


def _is_meant(work: Work, node: Node) -> bool:
    """Whether this is the node that the work is about: ids and keys come from outside."""
    if work.place is None:
        return node.tenant == work.tenant
    return node.object == work.place.ref


def _processing(etag: str, finding: Finding, thumbnails: tuple[Thumbnail, ...]) -> Processing:
    if finding.reason:
        return Processing(
            etag=etag,
            state=ProcessingState.FAILED,
            content_type=finding.content_type,
            reason=finding.reason,
            detail=finding.detail[:_MAX_DETAIL_CHARACTERS],
        )
    if finding.image is None:
        return Processing(etag, ProcessingState.PROCESSED, finding.content_type)
    facts = finding.image.facts
    return Processing(
        etag=etag,
        state=ProcessingState.PROCESSED,
        content_type=finding.content_type,
        width=facts.width,
        height=facts.height,
        frames=facts.frames,
        damaged=facts.damaged,
        exif=facts.exif.to_json(),
        location=None if facts.gps is None else facts.gps.to_json(),
        thumbnails=thumbnails,
    )
