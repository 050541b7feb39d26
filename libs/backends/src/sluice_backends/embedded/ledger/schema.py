"""Tables of the embedded ledger, their format version and the ledger's identity."""

from __future__ import annotations

import sqlite3

from sluice_core.errors import FailedPrecondition
from sluice_core.uploads.ids import new_nonce
from sluice_core.uploads.model import FORMAT_VERSION

# The columns beside `record` exist for searches; the record is authoritative.
_TABLES = """
CREATE TABLE uploads (
    upload_id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    created_at REAL NOT NULL,
    status TEXT NOT NULL,
    last_chunk_at REAL NOT NULL,
    queued_bytes INTEGER NOT NULL,
    behind INTEGER NOT NULL,
    events_pending INTEGER NOT NULL,
    ended_at REAL,
    next_cleanup_at REAL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX uploads_of_tenant ON uploads (tenant, created_at, upload_id);
CREATE INDEX uploads_open ON uploads (created_at, upload_id) WHERE ended_at IS NULL;
CREATE INDEX uploads_behind ON uploads (created_at, upload_id) WHERE behind;
CREATE INDEX uploads_to_clean ON uploads (next_cleanup_at) WHERE next_cleanup_at IS NOT NULL;
CREATE INDEX uploads_ended ON uploads (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE identities (upload_id TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE chunks (
    upload_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    crc32c INTEGER NOT NULL,
    token TEXT NOT NULL,
    PRIMARY KEY (upload_id, number)
) WITHOUT ROWID;

CREATE TABLE rejected (
    upload_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    crc32c INTEGER NOT NULL,
    PRIMARY KEY (upload_id, number)
) WITHOUT ROWID;

CREATE TABLE parts (
    upload_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    state TEXT NOT NULL,
    received INTEGER NOT NULL,
    size INTEGER NOT NULL,
    etag TEXT NOT NULL,
    crc32c INTEGER NOT NULL,
    sha256 BLOB,
    queued INTEGER NOT NULL,
    PRIMARY KEY (upload_id, number)
) WITHOUT ROWID;
CREATE INDEX parts_ready ON parts (upload_id, number) WHERE state = 'READY';

CREATE TABLE events (
    upload_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    type TEXT NOT NULL,
    occurred_at REAL NOT NULL,
    payload BLOB NOT NULL,
    trace_parent TEXT NOT NULL,
    PRIMARY KEY (upload_id, sequence)
) WITHOUT ROWID;

CREATE TABLE debris (upload_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


def prepare(connection: sqlite3.Connection) -> str:
    """Create or check the tables and return the nonce; raise `FailedPrecondition` LEDGER_FORMAT."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
        )
        meta: dict[str, str] = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        if not meta:
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            meta = {"format": str(FORMAT_VERSION), "nonce": new_nonce()}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        if meta.get("format") == str(FORMAT_VERSION):
            _add_later_columns(connection)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return _nonce_of(meta)


def check_format(connection: sqlite3.Connection) -> str:
    """Return the nonce of an existing file; raise `FailedPrecondition` LEDGER_FORMAT."""
    return _nonce_of(dict(connection.execute("SELECT key, value FROM meta").fetchall()))


def _nonce_of(meta: dict[str, str]) -> str:
    if meta.get("format") != str(FORMAT_VERSION):
        raise FailedPrecondition(
            "LEDGER_FORMAT",
            f"The ledger's file has format {meta.get('format')}, this release reads "
            f"{FORMAT_VERSION}; run the release that wrote it, or move the file away.",
        )
    return meta["nonce"]


def _add_later_columns(connection: sqlite3.Connection) -> None:
    """Add columns and indexes of later releases, which earlier releases ignore."""
    columns = {row[1] for row in connection.execute("PRAGMA table_info(uploads)")}
    if "events_retry_at" not in columns:
        connection.execute("ALTER TABLE uploads ADD COLUMN events_retry_at REAL NOT NULL DEFAULT 0")
    connection.execute("DROP INDEX IF EXISTS uploads_with_events")
    connection.execute(
        "CREATE INDEX IF NOT EXISTS uploads_events_due"
        " ON uploads (events_retry_at, created_at, upload_id) WHERE events_pending > 0"
    )
