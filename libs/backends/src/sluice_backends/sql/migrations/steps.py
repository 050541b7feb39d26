"""Shared types and idempotent steps of migrations."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

# Released revisions use these types, so they never change. A revision that needs another type
# defines its own.
MICROS = sa.BigInteger()
"""Time in whole microseconds since the epoch."""
OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_collate": "utf8mb4_bin",
}
"""Options of every table."""


def binary(length: int) -> sa.types.TypeEngine[bytes]:
    """Return a type of at most `length` bytes with bytewise comparison."""
    return sa.LargeBinary(length).with_variant(mysql.VARBINARY(length), "mysql", "mariadb")


# Every step is idempotent. MySQL commits each DDL statement, so a migration that dies keeps its
# first steps without recording its revision, and the next run repeats all of them.
def create_table(name: str, *columns: sa.schema.SchemaItem, **options: Any) -> None:
    # One atomic statement creates a table, so an existing one is complete.
    op.create_table(name, *columns, if_not_exists=True, **options)


def create_index(name: str, table: str, columns: list[str]) -> None:
    # MySQL has no CREATE INDEX IF NOT EXISTS.
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def drop_index(name: str, table: str) -> None:
    # MySQL has no DROP INDEX IF EXISTS.
    if name in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.drop_index(name, table)


def add_column(table: str, column: sa.Column[Any]) -> None:
    # MySQL has no ADD COLUMN IF NOT EXISTS.
    if column.name not in {one["name"] for one in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def change_primary_key(table: str, columns: list[str]) -> None:
    inspector = sa.inspect(op.get_bind())
    if inspector.get_pk_constraint(table)["constrained_columns"] == columns:
        return
    if op.get_context().dialect.name == "sqlite":
        _copy_with_primary_key(table, columns)
        return
    # One statement, so that the table always has a primary key.
    names = ", ".join(columns)
    op.execute(f"ALTER TABLE {table} DROP PRIMARY KEY, ADD PRIMARY KEY ({names})")


def _copy_with_primary_key(table: str, columns: list[str]) -> None:
    """Copy the table to one with the new key: SQLite cannot change the key of a table.

    This is safe, because a migration on SQLite is one transaction.
    """
    old = sa.Table(table, sa.MetaData(), autoload_with=op.get_bind())
    new = sa.Table(
        f"{table}_new",
        sa.MetaData(),
        *(sa.Column(one.name, one.type, nullable=one.nullable) for one in old.columns),
        sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}"),
    )
    op.get_bind().execute(sa.schema.CreateTable(new))
    names = [one.name for one in old.columns]
    op.get_bind().execute(sa.insert(new).from_select(names, sa.select(old)))
    op.drop_table(table)
    op.rename_table(new.name, table)
    for index in old.indexes:
        create_index(str(index.name), table, [one.name for one in index.columns])
