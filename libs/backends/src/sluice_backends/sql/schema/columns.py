"""Column types and options that all tables share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Dialect,
    Integer,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
)
from sqlalchemy.dialects import mysql

MAX_KEY_BYTES = 1024
"""S3's limit for an object key."""

_MICROSECONDS = 1_000_000


class Micros(TypeDecorator[float]):
    """Seconds since the epoch in Python, whole microseconds in the database.

    A BIGINT is exact, comparable and free of time zones. DATETIME differs between vendors, and
    DOUBLE does not compare reliably.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> int | None:
        return None if value is None else round(value * _MICROSECONDS)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        return None if value is None else int(value) / _MICROSECONDS


class Utf8(TypeDecorator[str | bytes]):
    """Text in Python, its UTF-8 bytes in the database; a range bound may be bytes already.

    No collation applies to VARBINARY, so order, equality and unique keys are bytewise on every
    database (rule 19).
    """

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
    """Text that compares exactly, including trailing spaces.

    Names and ids use a binary collation, which ignores trailing spaces; they have none. A tenant
    comes from a token and may have some. MySQL stores it as bytes, so that "a " is not "a".
    """

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


ROW_ID = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite autoincrements only columns of exactly INTEGER."""

SHA256 = LargeBinary(32).with_variant(mysql.VARBINARY(32), "mysql", "mariadb")

OPTIONS: dict[str, Any] = {
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
