"""Snapshots and events from replies of scripts, with a cache of `NewUpload`."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients
from sluice_core.errors import Internal
from sluice_core.events import uploads as events
from sluice_core.ledger import refusals
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ledger.record import decode_new, encode_new, with_claims
from sluice_core.ports import LedgerEvent
from sluice_core.uploads.model import NewUpload, UploadOwner, UploadSnapshot, UploadStatus

_CACHED_UPLOADS = 4_096
"""Size of the cache of `NewUpload`, so that steps need not send what never changes."""


class SnapshotReader:
    """Decoder of script replies.

    A snapshot combines the record, which every step sends, with the immutable `NewUpload`, which is
    read once. The node id links the two: a purged upload id that is reused (request_id) has a
    new one.
    """

    def __init__(self, clients: RedisClients, options: LedgerOptions) -> None:
        self._clients = clients
        self._options = options
        self._cache: OrderedDict[str, NewUpload] = OrderedDict()

    def remember(self, new: NewUpload) -> None:
        """Cache a `NewUpload` that the caller has."""
        self._cache[new.upload_id] = new
        self._cache.move_to_end(new.upload_id)
        if len(self._cache) > _CACHED_UPLOADS:
            self._cache.popitem(last=False)

    def owner_of(self, upload_id: str) -> UploadOwner | None:
        """Return the owner of a cached upload, or None."""
        known = self._cache.get(upload_id)
        return None if known is None else known.owner

    async def read_owner(self, upload_id: str) -> UploadOwner:
        """Return the owner after one read, for a known and for an unknown upload alike.

        Raise `NotFound` UPLOAD_NOT_FOUND.
        """
        return (await self._read_new(upload_id)).owner

    async def snapshot(self, upload_id: str, fields: Sequence[Any]) -> UploadSnapshot:
        """Return the snapshot of the fields that record.lua sends.

        Raise `NotFound` UPLOAD_NOT_FOUND if the upload was purged meanwhile.
        """
        (
            node_id,
            status,
            sequence,
            created_at,
            updated_at,
            last_chunk_at,
            received_bytes,
            received_chunks,
            stored_bytes,
            stored_chunks,
            watermark_chunk,
            watermark_part,
            needed_number,
            highest,
            total_chunks,
            multipart_id,
            crc32c,
            sha256,
            failure_reason,
            failure_detail,
            ended_at,
            claimed_sha256,
            claimed_crc32c,
            completing_at,
        ) = fields
        created, last_chunk = float(created_at), float(last_chunk_at)
        new = await self._new(upload_id, node_id.decode())
        return UploadSnapshot(
            self._with_claims(new, _digest(claimed_sha256), claimed_crc32c),
            UploadStatus(status.decode()),
            sequence,
            created,
            float(updated_at),
            min(
                last_chunk + self._options.idle_lifetime_seconds,
                created + self._options.total_lifetime_seconds,
            ),
            received_bytes,
            received_chunks,
            stored_bytes,
            stored_chunks,
            watermark_chunk,
            watermark_part,
            needed_number,
            highest,
            total_chunks,
            multipart_id.decode(),
            crc32c,
            _digest(sha256),
            failure_reason.decode(),
            failure_detail.decode(),
            None if ended_at is None else float(ended_at),
            None if completing_at is None else float(completing_at),
        )

    async def events(
        self, upload_id: str, fields: Sequence[Any], entries: Sequence[bytes]
    ) -> list[LedgerEvent]:
        """Return the events of an upload from their stored facts."""
        if not entries:
            return []
        new = (await self.snapshot(upload_id, fields)).new
        return [_event(new, json.loads(entry)) for entry in entries]

    async def _new(self, upload_id: str, node_id: str) -> NewUpload:
        known = self._cache.get(upload_id)
        if known is not None and known.node_id == node_id:
            return known
        new = await self._read_new(upload_id)
        if new.node_id != node_id:
            raise refusals.upload_not_found()  # purged, and created again by another caller
        return new

    async def _read_new(self, upload_id: str) -> NewUpload:
        metadata = keys.metadata(upload_id)
        stored = await self._clients.execute(metadata, "HGET", metadata, "new")
        if stored is None:
            raise refusals.upload_not_found()
        new = decode_new(json.loads(stored))
        self.remember(new)
        return new

    def _with_claims(self, new: NewUpload, sha256: bytes | None, crc32c: int | None) -> NewUpload:
        """Add the claims of the record, which may have arrived with the completion."""
        if (sha256, crc32c) == (new.sha256, new.crc32c):
            return new
        claimed = with_claims(new, sha256, crc32c)
        self.remember(claimed)
        return claimed


def new_upload_json(new: NewUpload) -> str:
    """Return the value of the field `new` of the hash `metadata`."""
    return json.dumps(encode_new(new), separators=(",", ":"))


def _digest(value: bytes | None) -> bytes | None:
    return bytes.fromhex(value.decode()) if value else None


def _event(new: NewUpload, facts: dict[str, Any]) -> LedgerEvent:
    sequence, at = facts["sequence"], float(facts["at"])
    match facts["type"]:
        case "UploadInitiated":
            return events.upload_initiated(new, sequence, at)
        case "UploadAborted":
            return events.upload_aborted(new, sequence, at)
        case "UploadExpired":
            return events.upload_expired(new, sequence, at, reason=facts["reason"])
        case "UploadFailed":
            return events.upload_failed(
                new, sequence, at, reason=facts["reason"], detail=facts["detail"]
            )
        case "UploadCompleted":
            return events.upload_completed(
                new,
                sequence,
                at,
                size=facts["size"],
                crc32c=facts["crc32c"],
                sha256=bytes.fromhex(facts["sha256"]) or None,
            )
    raise Internal("UNKNOWN_EVENT", f"A ledger event has the unknown type {facts['type']}.")
