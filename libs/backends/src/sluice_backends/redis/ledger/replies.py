"""Snapshots and events as the scripts answer them, and what an upload settled at its beginning."""

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
from sluice_core.uploads.model import NewUpload, UploadSnapshot, UploadStatus

_KEPT = 4_096
"""Uploads whose `NewUpload` a process keeps: what settled once need not be sent with each step."""


class SnapshotReader:
    """Turns the answers of scripts into values of the port.

    A snapshot consists of the record, which every step sends, and of what `NewUpload` settled,
    which is read once. The node id ties the two together: an upload id that was forgotten and used
    again (request_id) has a new one.
    """

    def __init__(self, clients: RedisClients, options: LedgerOptions) -> None:
        self._clients = clients
        self._options = options
        self._settled: OrderedDict[str, NewUpload] = OrderedDict()

    def remember(self, new: NewUpload) -> None:
        """What was settled, as its caller knows it."""
        self._settled[new.upload_id] = new
        self._settled.move_to_end(new.upload_id)
        if len(self._settled) > _KEPT:
            self._settled.popitem(last=False)

    def tenant_of(self, upload_id: str) -> str | None:
        """Whose upload it is, where that is known here."""
        known = self._settled.get(upload_id)
        return None if known is None else known.tenant

    async def snapshot(self, upload_id: str, fields: Sequence[Any]) -> UploadSnapshot:
        """The snapshot from its fields (record.lua). Raises `NotFound` UPLOAD_NOT_FOUND when the
        upload was forgotten meanwhile."""
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
        ) = fields
        begun, last_chunk = float(created_at), float(last_chunk_at)
        new = await self._new(upload_id, node_id.decode())
        return UploadSnapshot(
            self._with_claims(new, _digest(claimed_sha256), claimed_crc32c),
            UploadStatus(status.decode()),
            sequence,
            begun,
            float(updated_at),
            min(
                last_chunk + self._options.idle_lifetime_seconds,
                begun + self._options.total_lifetime_seconds,
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
        )

    async def events(
        self, upload_id: str, fields: Sequence[Any], entries: Sequence[bytes]
    ) -> list[LedgerEvent]:
        """The events of an upload from their facts."""
        if not entries:
            return []
        new = (await self.snapshot(upload_id, fields)).new
        return [_event(new, json.loads(entry)) for entry in entries]

    async def _new(self, upload_id: str, node_id: str) -> NewUpload:
        known = self._settled.get(upload_id)
        if known is not None and known.node_id == node_id:
            return known
        metadata = keys.metadata(upload_id)
        settled = await self._clients.execute(metadata, "HGET", metadata, "new")
        if settled is None:
            raise refusals.upload_not_found()
        new = decode_new(json.loads(settled))
        if new.node_id != node_id:
            raise refusals.upload_not_found()  # forgotten, and begun anew by somebody else
        self.remember(new)
        return new

    def _with_claims(self, new: NewUpload, sha256: bytes | None, crc32c: int | None) -> NewUpload:
        """Claims may have come with the completion; they are part of the record."""
        if (sha256, crc32c) == (new.sha256, new.crc32c):
            return new
        claimed = with_claims(new, sha256, crc32c)
        self.remember(claimed)
        return claimed


def settled_as_json(new: NewUpload) -> str:
    """What the hash `metadata` keeps."""
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
