"""The node handler behind every source of work."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from sluice_core.concurrency.batching import CallBatcher
from sluice_core.errors import Aborted, FailedPrecondition, NotFound, SluiceError, Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.catalogue import Candidate, Drive, Node
from sluice_core.ports.object_store import ObjectAttributes, ObjectInfo
from sluice_core.uploads.partial import is_partial
from sluice_processor.deps import ProcessorDeps
from sluice_processor.images import model
from sluice_processor.images.model import RefusalReason
from sluice_processor.nodes.adoption import Adopter, Adoption
from sluice_processor.nodes.examination import REEXAMINED_REASONS, Examiner, Finding
from sluice_processor.nodes.keys import Place, thumbnail_ref
from sluice_processor.nodes.stages import Stage, staged

_log = structlog.get_logger(__name__)
RETRY_LATER_REASONS: Final = frozenset(
    {RefusalReason.TIMEOUT.value, "HANDLER_TIMEOUT", "DECODER_UNAVAILABLE", "SCANNER_UNAVAILABLE"}
)
"""Reasons that an overloaded machine or a scanner that is down may cause: sources postpone a retry
before they give up."""
_MAX_DETAIL_CHARACTERS: Final = 500

PROCESSED: Final = "processed"
FAILED: Final = "failed"
REPEATED: Final = "repeated"
GONE: Final = "gone"
ADOPTED: Final = "adopted"
ANNOUNCED: Final = "announced"
IGNORED: Final = "ignored"
POSTPONED: Final = "postponed"
"""Outcomes, as named in the metrics."""


@dataclass(frozen=True, slots=True)
class Work:
    """A node to process.

    `place` is set if only the object is known. Its node may not exist yet, and `tenant` is empty:
    it is that of the drive which stores the object.
    """

    tenant: str
    node_id: str
    trace_parent: str = ""
    since: float | None = None
    """When the work arose, in seconds since the epoch."""
    place: Place | None = None
    is_final: bool = True
    """Whether a TIMEOUT is recorded; otherwise the source retries later."""
    is_requested: bool = False
    """Whether somebody asked for it: then a node that FAILED is examined again, whatever the
    reason, and the result is published, whatever it is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a work item."""

    kind: str
    reason: str = ""
    has_thumbnails: bool = field(default=False, compare=False)


class NodeProcessor:
    """Processes nodes and records the results in the catalogue; any number concurrently.

    Idempotent by (node id, ETag): several processes may handle one node, and any of them may die
    at any point. Thumbnails are announced before they are written, so that they are deleted with
    the node even if the writer dies. Their keys are derived from the content, so that a retry
    writes the same keys. The catalogue accepts one result per content.
    """

    def __init__(self, deps: ProcessorDeps) -> None:
        self._deps = deps
        self._examiner = Examiner(deps)
        self._adopter = Adopter(deps)
        self._candidates: CallBatcher[str, Candidate | None] = CallBatcher(
            self._candidates_of, lambda node_id: node_id
        )
        self._results: CallBatcher[NodeResult, Recorded] = CallBatcher(
            deps.catalogue.record_all_processed, lambda result: result.node_id
        )

    async def process(self, work: Work) -> Outcome:
        """Examine a node, record the result and return the outcome.

        Raise `SluiceError`: a retryable one for transient failures, or `FailedPrecondition` with
        one of `REEXAMINED_REASONS`, e.g. for a picture whose decoder crashed. Such a node is marked
        as FAILED and examined again on request. After a TIMEOUT of work that is not final it is
        not marked.
        """
        metrics = self._deps.metrics
        with (
            metrics.in_flight.track_inprogress(),
            span("processor node", work.trace_parent, node_id=work.node_id),
        ):
            outcome = await self._guarded(work)
        metrics.nodes.labels(outcome.kind, outcome.reason).inc()
        if outcome.kind in (PROCESSED, FAILED) and work.since is not None:
            delay = max(0.0, time.time() - work.since)
            metrics.delay_seconds.observe(delay)
            if outcome.has_thumbnails:
                metrics.thumbnail_latency.observe(1000 * delay)
        if outcome.kind == POSTPONED:
            raise FailedPrecondition(outcome.reason, "The node ran out of time; try again later.")
        if outcome.kind == FAILED:
            _log.info("node.failed", node_id=work.node_id, reason=outcome.reason)
            if outcome.reason in REEXAMINED_REASONS:
                raise FailedPrecondition(
                    outcome.reason,
                    "The node could not be examined and is marked as failed; process it again.",
                )
        return outcome

    async def _guarded(self, work: Work) -> Outcome:
        """Keep the text of unexpected errors out of logs, traces and dead letters.

        It may quote anything, GPS coordinates included. The type and the location of the error
        suffice to find the defect.
        """
        try:
            return await self._process(work)
        except SluiceError:
            raise
        except Exception as error:  # noqa: BLE001 - reported below
            kind, frames = type(error).__name__, traceback.extract_tb(error.__traceback__)
        where = [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in frames]
        _log.error("node.handling_failed", node_id=work.node_id, error=kind, where=where)
        raise Unavailable(
            "HANDLER_FAILED", f"The processor raised {kind}, which is a defect; report it."
        )

    async def _process(self, work: Work) -> Outcome:
        catalogue, objects = self._deps.catalogue, self._deps.objects
        candidate = await self._candidates.call(work.node_id)
        if candidate is None and work.place is not None:
            outcome = await self._adopted(work.place)
            if outcome is not None:
                return outcome
            candidate = await self._candidates.call(work.node_id)
        if candidate is None or not _is_meant(work, candidate.node):
            return Outcome(GONE)
        node = candidate.node
        if is_partial(node.metadata):
            return Outcome(IGNORED, "PARTIAL_UPLOAD")
        info = await objects.head(node.object)
        if info is None:
            return await self._missing(node)
        is_done = candidate.etag == info.etag and not (work.is_requested and candidate.reason)
        if is_done and candidate.reason not in REEXAMINED_REASONS:
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
                    is_requested=work.is_requested,
                )
            )
        return self._outcome(node, finding, recorded)

    async def _adopted(self, place: Place) -> Outcome | None:
        """Adopt an object; return None if its node is to be examined now.

        Where events follow, the event of the new node is separate work. Examining the node here
        too would do most of it twice.
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
                    "UPLOAD_UNDER_WAY",
                    "The upload of the object is still in progress; try again later.",
                )
        return Outcome(IGNORED, adoption.value)

    async def _candidates_of(self, node_ids: Sequence[str]) -> Sequence[Candidate | None]:
        found = await self._deps.catalogue.candidates(node_ids)
        return [found.get(node_id) for node_id in node_ids]

    async def _check_unchanged(self, node: Node, info: ObjectInfo) -> None:
        """Raise `Aborted` OBJECT_CHANGED if the object was replaced since `info`.

        Not needed if only the checksum is recorded: the bytes were read after `info` and match
        the node, so its ETag is that of the same content.
        """
        again = await self._deps.objects.head(node.object)
        if again is None or again.etag != info.etag:
            raise Aborted("OBJECT_CHANGED", "The object was replaced while it was read; try again.")

    def _outcome(self, node: Node, finding: Finding, recorded: Recorded) -> Outcome:
        if recorded is Recorded.GONE:
            return Outcome(GONE)
        if finding.reason:
            # Also for a repeat: a requested retry must report its result.
            return Outcome(FAILED, finding.reason)
        if recorded is Recorded.REPEATED:
            return Outcome(REPEATED)
        if node.sha256 is None and finding.sha256 is not None:
            self._deps.metrics.integrity.verified.inc()
        return Outcome(PROCESSED, has_thumbnails=finding.image is not None)

    async def _missing(self, node: Node) -> Outcome:
        """Return GONE if the node has just ended; raise `Unavailable` if the object is lost."""
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
        """Store the thumbnails; return None if the node has ended."""
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
    """Return whether the node is the one that the work means: ids and keys are untrusted input."""
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
