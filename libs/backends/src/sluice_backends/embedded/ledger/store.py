"""Rows of the embedded ledger in SQLite tables, used by the ledger's thread only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from sluice_core.ledger.record import (
    UploadRecord,
    decode_new,
    decode_record,
    encode_new,
    encode_record,
)
from sluice_core.ledger.store import PartRow, RejectedChunk, UploadAge
from sluice_core.ports import LedgerEvent
from sluice_core.ports.inspection import PartState, WorkLeft
from sluice_core.uploads.model import (
    ChunkRange,
    ChunkRef,
    MissingChunks,
    NewUpload,
    UploadStatus,
)
from sluice_core.uploads.states import TAKES_CHUNKS

_SCAN_CHUNKS = 50_000
"""Chunks visited by one search for gaps."""

_CACHED_IDENTITIES = 1_024

_OPEN = ", ".join(f"'{status.value}'" for status in sorted(TAKES_CHUNKS))
_PART = "number, first, last, state, received, size, etag, crc32c, sha256, queued"


# Size: one method for each of `LedgerStore`'s, a statement each.
class SqliteStore:
    """`LedgerStore` on one connection, inside the transaction of the ledger's thread.

    Records are decoded for every step, so that a rollback leaves no stale state. Only the
    immutable `NewUpload` is cached.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._identities: dict[str, NewUpload] = {}

    def rolled_back(self) -> None:
        """Drop the cache after a rollback: saved rows may be gone."""
        self._identities.clear()

    def touch(self) -> None:
        """Write without a change; raise when the file is not writable."""
        self._db.execute("UPDATE meta SET value = value WHERE key = 'format'")

    def drop_holds(self) -> None:
        """End every claim of the previous process, so that its work need not wait for the leases.

        That process is gone, because one process at a time uses the file. Its late writes are
        fenced.
        """
        live = self._db.execute("SELECT upload_id FROM uploads WHERE ended_at IS NULL").fetchall()
        self._db.execute("BEGIN IMMEDIATE")
        for (upload_id,) in live:
            record = self.upload(upload_id)
            if record is not None and record.holds:
                record.holds.clear()
                self.save(record)
        self._db.execute("COMMIT")

    def queued(self) -> list[tuple[str, str, int]]:
        """Return (upload id, tenant, queued bytes) of every upload that holds bytes."""
        return self._db.execute(
            "SELECT upload_id, tenant, queued_bytes FROM uploads"
            " WHERE ended_at IS NULL AND queued_bytes > 0"
        ).fetchall()

    # -- uploads

    def upload(self, upload_id: str) -> UploadRecord | None:
        row = self._db.execute(
            "SELECT record FROM uploads WHERE upload_id = ?", (upload_id,)
        ).fetchone()
        return decode_record(self._identity(upload_id), json.loads(row[0])) if row else None

    def insert(self, record: UploadRecord) -> None:
        new = record.new
        if self._db.execute("DELETE FROM debris WHERE upload_id = ?", (new.upload_id,)).rowcount:
            # A derived id (request_id) is reused: remove its former rows, or they would reappear.
            self._db.execute("DELETE FROM chunks WHERE upload_id = ?", (new.upload_id,))
        self._db.execute(
            "INSERT INTO uploads (upload_id, tenant, created_at, status, last_chunk_at,"
            " queued_bytes, behind, events_pending, record) VALUES (?, ?, ?, ?, ?, 0, 0, 0, '')",
            (
                new.upload_id,
                new.tenant,
                record.created_at,
                record.status.value,
                record.last_chunk_at,
            ),
        )
        self.save_claims(record)
        self.save(record)

    def save(self, record: UploadRecord) -> None:
        self._db.execute(
            "UPDATE uploads SET status = ?, last_chunk_at = ?, queued_bytes = ?, behind = ?,"
            " events_pending = ?, events_retry_at = ?, ended_at = ?, next_cleanup_at = ?,"
            " record = ?"
            " WHERE upload_id = ?",
            (
                record.status.value,
                record.last_chunk_at,
                record.queued_bytes,
                record.behind,
                record.events_pending,
                record.events_retry_at,
                record.ended_at,
                record.next_cleanup_at,
                json.dumps(encode_record(record), separators=(",", ":")),
                record.new.upload_id,
            ),
        )

    def save_claims(self, record: UploadRecord) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO identities (upload_id, identity) VALUES (?, ?)",
            (record.new.upload_id, json.dumps(encode_new(record.new), separators=(",", ":"))),
        )
        self._identities[record.new.upload_id] = record.new

    def purge(self, upload_id: str) -> None:
        """Remove an upload. Its chunks are only marked, and removed in steps: there are many."""
        for table in ("uploads", "identities", "rejected", "parts", "events"):
            self._db.execute(f"DELETE FROM {table} WHERE upload_id = ?", (upload_id,))
        self._db.execute("INSERT OR IGNORE INTO debris VALUES (?)", (upload_id,))
        self._identities.pop(upload_id, None)

    def clear_purged(self, limit: int) -> bool:
        row = self._db.execute("SELECT upload_id FROM debris LIMIT 1").fetchone()
        if row is None:
            return False
        cleared = self._db.execute(
            "DELETE FROM chunks WHERE upload_id = ? AND number IN"
            " (SELECT number FROM chunks WHERE upload_id = ? LIMIT ?)",
            (row[0], row[0], limit),
        ).rowcount
        if cleared < limit:
            self._db.execute("DELETE FROM debris WHERE upload_id = ?", row)
        return True

    def newest(
        self, tenant: str, limit: int, after: tuple[float, str] | None
    ) -> Sequence[UploadAge]:
        beyond = "" if after is None else " AND (created_at, upload_id) < (?, ?)"
        rows = self._db.execute(
            f"SELECT created_at, upload_id, status FROM uploads WHERE tenant = ?{beyond}"
            " ORDER BY created_at DESC, upload_id DESC LIMIT ?",
            (tenant, *(after or ()), limit),
        )
        return [
            UploadAge(begun, upload_id, UploadStatus(status)) for begun, upload_id, status in rows
        ]

    # -- chunks

    def chunk(self, upload_id: str, number: int) -> ChunkRef | None:
        row = self._db.execute(
            "SELECT number, size, crc32c, token FROM chunks WHERE upload_id = ? AND number = ?",
            (upload_id, number),
        ).fetchone()
        return ChunkRef(*row) if row else None

    def put_chunk(self, upload_id: str, chunk: ChunkRef) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?)",
            (upload_id, chunk.number, chunk.size, chunk.crc32c, chunk.token),
        )

    def chunks(self, upload_id: str, first: int, last: int, limit: int) -> Sequence[ChunkRef]:
        rows = self._db.execute(
            "SELECT number, size, crc32c, token FROM chunks"
            " WHERE upload_id = ? AND number BETWEEN ? AND ? ORDER BY number LIMIT ?",
            (upload_id, first, last, limit),
        )
        return [ChunkRef(*row) for row in rows]

    def missing(self, upload_id: str, first: int, last: int, limit: int) -> MissingChunks:
        rows = self._db.execute(
            "SELECT number FROM chunks WHERE upload_id = ? AND number BETWEEN ? AND ?"
            " ORDER BY number LIMIT ?",
            (upload_id, first, last, _SCAN_CHUNKS),
        )
        ranges: list[ChunkRange] = []
        expected, seen = first, 0
        for (number,) in rows:
            seen += 1
            if number > expected:
                if len(ranges) == limit:
                    return MissingChunks(tuple(ranges), truncated=True)
                ranges.append(ChunkRange(expected, number - 1))
            expected = number + 1
        if expected > last:
            return MissingChunks(tuple(ranges), truncated=False)
        if seen == _SCAN_CHUNKS or len(ranges) == limit:
            return MissingChunks(tuple(ranges), truncated=True)
        return MissingChunks((*ranges, ChunkRange(expected, last)), truncated=False)

    def named_tokens(self, upload_id: str, tokens: Sequence[str]) -> set[str]:
        rows = self._db.execute(
            "SELECT token FROM chunks WHERE upload_id = ?"
            " AND token IN (SELECT value FROM json_each(?))",
            (upload_id, json.dumps(list(tokens))),
        )
        return {token for (token,) in rows}

    def reject(self, upload_id: str, chunk: RejectedChunk) -> None:
        self._db.execute(
            "DELETE FROM chunks WHERE upload_id = ? AND number = ?", (upload_id, chunk.number)
        )
        self._db.execute("INSERT OR REPLACE INTO rejected VALUES (?, ?, ?, ?)", (upload_id, *chunk))

    def rejected(self, upload_id: str, number: int) -> RejectedChunk | None:
        row = self._db.execute(
            "SELECT number, size, crc32c FROM rejected WHERE upload_id = ? AND number = ?",
            (upload_id, number),
        ).fetchone()
        return RejectedChunk(*row) if row else None

    def first_rejected(self, upload_id: str) -> int:
        (number,) = self._db.execute(
            "SELECT min(number) FROM rejected WHERE upload_id = ?", (upload_id,)
        ).fetchone()
        return -1 if number is None else int(number)

    def drop_rejected(self, upload_id: str, number: int) -> None:
        self._db.execute(
            "DELETE FROM rejected WHERE upload_id = ? AND number = ?", (upload_id, number)
        )

    # -- parts

    def part(self, upload_id: str, number: int) -> PartRow | None:
        return _part(
            self._db.execute(
                f"SELECT {_PART} FROM parts WHERE upload_id = ? AND number = ?",
                (upload_id, number),
            ).fetchone()
        )

    def part_with_chunk(self, upload_id: str, number: int) -> PartRow | None:
        return _part(
            self._db.execute(
                f"SELECT {_PART} FROM parts WHERE upload_id = ? AND first <= ? AND last >= ?",
                (upload_id, number, number),
            ).fetchone()
        )

    def put_part(self, upload_id: str, part: PartRow) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                upload_id,
                part.number,
                part.first,
                part.last,
                part.state.value,
                part.received,
                part.size,
                part.etag,
                part.crc32c,
                part.sha256,
                part.queued,
            ),
        )

    def stored_parts(self, upload_id: str, after: int, limit: int) -> Sequence[PartRow]:
        rows = self._db.execute(
            f"SELECT {_PART} FROM parts WHERE upload_id = ? AND number > ? AND state = 'STORED'"
            " ORDER BY number LIMIT ?",
            (upload_id, after, limit),
        )
        return [part for part in map(_part, rows) if part is not None]

    def parts(self, upload_id: str, after: int, limit: int) -> Sequence[PartRow]:
        rows = self._db.execute(
            f"SELECT {_PART} FROM parts WHERE upload_id = ? AND number > ? ORDER BY number LIMIT ?",
            (upload_id, after, limit),
        )
        return [part for part in map(_part, rows) if part is not None]

    # -- events

    def append_event(self, event: LedgerEvent) -> None:
        self._db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.upload_id,
                event.sequence,
                event.event_id,
                event.node_id,
                event.tenant,
                event.type,
                event.occurred_at,
                event.payload,
                event.trace_parent,
            ),
        )

    def events(self, upload_id: str) -> Sequence[LedgerEvent]:
        rows = self._db.execute(
            "SELECT event_id, upload_id, node_id, tenant, type, sequence, occurred_at, payload,"
            " trace_parent FROM events WHERE upload_id = ? ORDER BY sequence",
            (upload_id,),
        )
        return [LedgerEvent(*row) for row in rows]

    def drop_events(self, upload_id: str, up_to_sequence: int) -> int:
        return self._db.execute(
            "DELETE FROM events WHERE upload_id = ? AND sequence <= ?",
            (upload_id, up_to_sequence),
        ).rowcount

    # -- work discovery

    def with_events(self, limit: int) -> Sequence[str]:
        return self._ids(
            "SELECT upload_id FROM uploads WHERE events_pending > 0 AND events_retry_at = 0"
            " ORDER BY created_at, upload_id LIMIT ?",
            limit,
        )

    def with_withheld_events(self, limit: int, until: float) -> Sequence[str]:
        return self._ids(
            "SELECT upload_id FROM uploads WHERE events_pending > 0"
            " AND events_retry_at > 0 AND events_retry_at <= ?"
            " ORDER BY events_retry_at, created_at, upload_id LIMIT ?",
            until,
            limit,
        )

    def with_ready_parts(self, limit: int, after: tuple[float, str] | None) -> Sequence[str]:
        return self._ids(
            "SELECT upload_id FROM uploads WHERE ended_at IS NULL"
            " AND (created_at, upload_id) > (?, ?) AND EXISTS (SELECT 1 FROM parts"
            " WHERE parts.upload_id = uploads.upload_id AND parts.state = 'READY')"
            " ORDER BY created_at, upload_id LIMIT ?",
            *(after or (0.0, "")),
            limit,
        )

    def ready_parts(self, upload_id: str) -> Sequence[int]:
        rows = self._db.execute(
            "SELECT number FROM parts WHERE upload_id = ? AND state = 'READY' ORDER BY number",
            (upload_id,),
        )
        return [number for (number,) in rows]

    def completing(self, limit: int, after: tuple[float, str] | None) -> Sequence[str]:
        return self._ids(
            "SELECT upload_id FROM uploads WHERE ended_at IS NULL AND status = 'COMPLETING'"
            " AND (created_at, upload_id) > (?, ?) ORDER BY created_at, upload_id LIMIT ?",
            *(after or (0.0, "")),
            limit,
        )

    def behind(self, limit: int) -> Sequence[str]:
        return self._ids(
            "SELECT upload_id FROM uploads WHERE behind ORDER BY created_at, upload_id LIMIT ?",
            limit,
        )

    def expirable(self, deadline: float, created_before: float, limit: int) -> Sequence[str]:
        return self._ids(
            f"SELECT upload_id FROM uploads WHERE ended_at IS NULL AND status IN ({_OPEN})"
            " AND (last_chunk_at <= ? OR created_at <= ?)"
            " ORDER BY created_at, upload_id LIMIT ?",
            deadline,
            created_before,
            limit,
        )

    def idle_holders(self, last_chunk_before: float, limit: int) -> Sequence[str]:
        return self._ids(
            f"SELECT upload_id FROM uploads WHERE ended_at IS NULL AND status IN ({_OPEN})"
            " AND queued_bytes > 0 AND last_chunk_at <= ?"
            " ORDER BY created_at, upload_id LIMIT ?",
            last_chunk_before,
            limit,
        )

    def cleanups_due(self, now: float, limit: int, offset: int) -> Sequence[str]:
        return self._ids(
            "SELECT upload_id FROM uploads WHERE next_cleanup_at <= ?"
            " ORDER BY created_at, upload_id LIMIT ? OFFSET ?",
            now,
            limit,
            offset,
        )

    def purgeable(self, ended_before: float, limit: int) -> Sequence[str]:
        return self._ids(
            "SELECT upload_id FROM uploads WHERE ended_at <= ? AND next_cleanup_at IS NULL"
            " AND events_pending = 0 ORDER BY created_at, upload_id LIMIT ?",
            ended_before,
            limit,
        )

    def count_open(self) -> int:
        (count,) = self._db.execute(
            "SELECT count(*) FROM uploads WHERE ended_at IS NULL"
        ).fetchone()
        return int(count)

    def work_left(self) -> WorkLeft:
        counts = self._db.execute(
            "SELECT"
            " (SELECT count(*) FROM uploads WHERE ended_at IS NULL AND status = 'COMPLETING'),"
            " (SELECT count(*) FROM uploads WHERE ended_at IS NULL AND EXISTS"
            "  (SELECT 1 FROM parts WHERE parts.upload_id = uploads.upload_id"
            "   AND parts.state = 'READY')),"
            " (SELECT count(*) FROM uploads WHERE events_pending > 0)"
        ).fetchone()
        return WorkLeft(*counts)

    def _ids(self, query: str, *values: object) -> list[str]:
        return [upload_id for (upload_id,) in self._db.execute(query, values)]

    def _identity(self, upload_id: str) -> NewUpload:
        known = self._identities.get(upload_id)
        if known is None:
            (identity,) = self._db.execute(
                "SELECT identity FROM identities WHERE upload_id = ?", (upload_id,)
            ).fetchone()
            known = decode_new(json.loads(identity))
            if len(self._identities) >= _CACHED_IDENTITIES:
                self._identities.clear()
            self._identities[upload_id] = known
        return known


def _part(row: tuple[Any, ...] | None) -> PartRow | None:
    if row is None:
        return None
    number, first, last, state, received, size, etag, crc32c, sha256, queued = row
    return PartRow(
        number, first, last, PartState(state), received, size, etag, crc32c, sha256, bool(queued)
    )
