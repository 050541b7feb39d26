"""Data that nothing references any more: what a sweep has to remove."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sluice_core.uploads.model import NewUpload, UploadStatus
from sluice_core.uploads.states import is_terminal
from sluice_repository.deps import RepositoryDeps

_TEN_YEARS_SECONDS = 10 * 365 * 24 * 3600.0


@dataclass(slots=True)
class Orphans:
    """Unreferenced data by kind; all must be zero after a sweep."""

    objects: list[str] = field(default_factory=list)
    multiparts: list[str] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    intents: list[str] = field(default_factory=list)
    deletions: int = 0
    ready: int = 0
    queued_bytes: int = 0
    reserved_bytes: int = 0

    def none(self) -> bool:
        return self == Orphans()


async def find_orphans(deps: RepositoryDeps, uploads: Iterable[NewUpload], now: float) -> Orphans:
    """Return everything on the ports of `deps` that no live upload or node references.

    `now` is in seconds since the epoch.
    """
    found = Orphans()
    live_uploads = set()
    for upload in uploads:
        snapshot = await deps.ledger.get(upload.upload_id)
        ref = upload.object
        if is_terminal(snapshot.status):
            found.multiparts += await deps.objects.open_multiparts(ref)
        else:
            live_uploads.add(upload.upload_id)
        live = (
            snapshot.status is UploadStatus.COMPLETED
            if deps.catalogue is None
            else await deps.catalogue.is_object_live(ref)
        )
        if not live and await deps.objects.head(ref) is not None:
            found.objects.append(ref.key)
    for upload_id, tokens in await deps.chunks.leftovers(-1.0, 100_000):
        if upload_id not in live_uploads:
            found.chunks += [f"{upload_id}/{token}" for token in tokens]
    if deps.catalogue is not None:
        far = now + _TEN_YEARS_SECONDS
        found.intents = [
            i.upload_id
            for i in await deps.catalogue.stale_intents(far, 1_000)
            if i.upload_id not in live_uploads
        ]
        found.deletions = len(await deps.catalogue.deletions_due(now, 1_000))
    found.ready = len(await deps.ledger.ready_work(1_000))
    if not live_uploads:
        backlog = await deps.ledger.backlog()
        found.queued_bytes = backlog.queued_bytes
        found.reserved_bytes = backlog.reserved_bytes
    return found
