"""The tables of the catalogue: one schema for SQLite, MySQL 8 and MariaDB 10.11.

Choices that hold on all three:

- Times are whole microseconds since the epoch in a BIGINT: exact, comparable and free of time
  zones, where DATETIME differs between vendors and DOUBLE compares by accident.
- Paths and object keys are bytes of UTF-8 in a VARBINARY: no collation has a say, so that order,
  equality and the unique key are those of the bytes everywhere (rule 19).
- Names and ids are text under a binary collation, for the same reason. That one compares as if
  the shorter text went on with spaces, which names and ids do not have; a tenant, which comes from
  a token, might: to MySQL it is bytes, so that "a " is not "a".
- Rows that are deleted when done (outbox, deletions) never have their id used again, so that a
  late "done" cannot hit another row.

Migrations make these tables; a test holds the two against each other.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import mysql

from sluice_core.uploads.names import MAX_PATH_BYTES

MAX_KEY_BYTES = 1024
"""S3's limit for an object key."""

_MICROSECONDS = 1_000_000

LIVE = "LIVE"
SUPERSEDED = "SUPERSEDED"
DELETED = "DELETED"
"""States of a node row; the last two are tombstones and stay for good (rule 19)."""


class Micros(TypeDecorator[float]):
    """Seconds since the epoch in Python, whole microseconds in the database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> int | None:
        return None if value is None else round(value * _MICROSECONDS)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        return None if value is None else int(value) / _MICROSECONDS


class Utf8(TypeDecorator[str | bytes]):
    """Text in Python, its UTF-8 bytes in the database; a bound of a range may be bytes already."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.max_bytes = max_bytes

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.VARBINARY(self.max_bytes))
        return dialect.type_descriptor(LargeBinary(self.max_bytes))

    def process_bind_param(self, value: str | bytes | None, dialect: Dialect) -> bytes | None:
        return value.encode() if isinstance(value, str) else value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else bytes(value).decode()


class Exact(TypeDecorator[str]):
    """Text that is equal only to itself, also where a collation ignores spaces at its end."""

    impl = String
    cache_ok = True

    def __init__(self, max_characters: int) -> None:
        super().__init__(max_characters)
        self.max_characters = max_characters

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.VARBINARY(4 * self.max_characters))
        return dialect.type_descriptor(String(self.max_characters))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        mysql_like = dialect.name in ("mysql", "mariadb")
        return value.encode() if value is not None and mysql_like else value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return bytes(value).decode() if isinstance(value, bytes | bytearray) else value


_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows only under exactly INTEGER."""

_SHA256 = LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")

_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

drives = Table(
    "drives",
    metadata,
    Column("drive_id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("tenant", Exact(128), nullable=False),
    Column("name", String(63), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("key_prefix", String(512), nullable=False),
    Column("integrity", String(32), nullable=False),
    Column("part_bytes", BigInteger, nullable=False),
    Column("require_uniform", Boolean, nullable=False),
    Column("read_only", Boolean, nullable=False),
    Column("storage_class", String(64), nullable=False),
    Column("encryption", String(255), nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
    # The default is for a release that does not know the column yet.
    Column("drop_location", Boolean, nullable=False, server_default=text("0")),
    UniqueConstraint("tenant", "name"),
    **_OPTIONS,
)

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", String(128), primary_key=True),
    Column("drive_id", _ROW_ID, ForeignKey("drives.drive_id"), nullable=False, index=True),
    Column("path", Utf8(MAX_PATH_BYTES), nullable=False),
    Column("upload_id", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("crc32c", BigInteger, nullable=False),
    Column("sha256", _SHA256, nullable=True),
    # When a SHA-256 came to be owed (rule 20); NULL when none is. The verifier's work list.
    Column("sha256_owed_since", Micros, nullable=True, index=True),
    Column("metadata", Text, nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Micros, nullable=False),
    Column("updated_at", Micros, nullable=False),
    # "Does a live node name this object?" (rule 26)
    Index(None, "object_key", "bucket"),
    **_OPTIONS,
)

# The live node of every path. The row is what a commit locks, and its primary key is what makes
# a path unique (rule 19); its order by bytes is the order of listings.
paths = Table(
    "paths",
    metadata,
    Column("drive_id", _ROW_ID, ForeignKey("drives.drive_id"), nullable=False),
    Column("path", Utf8(MAX_PATH_BYTES), nullable=False),
    Column("node_id", String(128), ForeignKey("nodes.node_id"), nullable=False),
    PrimaryKeyConstraint("drive_id", "path"),
    UniqueConstraint("node_id"),
    sqlite_with_rowid=False,
    **_OPTIONS,
)

# What the processor found in a node's content; no row means that it has not looked yet.
processings = Table(
    "processings",
    metadata,
    Column("node_id", String(128), ForeignKey("nodes.node_id"), primary_key=True),
    Column("etag", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("detail", String(512), nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("exif", Text, nullable=False),
    # Apart from the rest, so that it can be left out; NULL when it is, or is not known.
    Column("location", Text, nullable=True),
    Column("processed_at", Micros, nullable=False),
    **_OPTIONS,
)

# Objects that belong to a node beside its content. A row is made before the object is, with only
# its name filled in, and goes when the object is put up for deletion.
thumbnails = Table(
    "thumbnails",
    metadata,
    Column("node_id", String(128), ForeignKey("nodes.node_id"), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("recorded", Boolean, nullable=False),
    Column("size", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("crc32c", BigInteger, nullable=False),
    Column("etag", String(255), nullable=False),
    PrimaryKeyConstraint("node_id", "object_key"),
    Index(None, "object_key", "bucket"),
    **_OPTIONS,
)

# Facts that await the relay (rule 22). A published row is deleted: what is here is unpublished,
# and the table stays as small as the backlog.
outbox = Table(
    "outbox",
    metadata,
    Column("row_id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("event_id", String(36), nullable=False),
    Column("type", String(128), nullable=False),
    Column("topic", String(128), nullable=False),
    Column("event_key", String(128), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("occurred_at", Micros, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("headers", Text, nullable=False),
    # The publisher has refused an event of this key: its events are no part of the relay's pages,
    # and are tried again apart from them. The default is for a release that does not know this.
    Column("withheld", Boolean, nullable=False, server_default=text("0")),
    Index(None, "withheld"),
    Index(None, "event_key"),
    sqlite_autoincrement=True,
    **_OPTIONS,
)

object_deletions = Table(
    "object_deletions",
    metadata,
    Column("deletion_id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("bucket", String(255), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("not_before", Micros, nullable=False, index=True),
    sqlite_autoincrement=True,
    **_OPTIONS,
)

object_intents = Table(
    "object_intents",
    metadata,
    Column("upload_id", String(128), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("bucket", String(255), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("multipart_id", String(1024), nullable=False),
    Column("created_at", Micros, nullable=False, index=True),
    # An upload id comes back when its request id does; the key has the node id in it.
    PrimaryKeyConstraint("upload_id", "object_key"),
    # "Is an upload about to make this object?"
    Index(None, "object_key", "bucket"),
    **_OPTIONS,
)

# Intents that were cleared because their upload had ended: no commit of it makes a node any more.
cleared_intents = Table(
    "cleared_intents",
    metadata,
    Column("upload_id", String(128), nullable=False),
    Column("object_key", Utf8(MAX_KEY_BYTES), nullable=False),
    Column("cleared_at", Micros, nullable=False, index=True),
    PrimaryKeyConstraint("upload_id", "object_key"),
    **_OPTIONS,
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("holder", String(255), nullable=False),
    Column("expires_at", Micros, nullable=False),
    **_OPTIONS,
)
