"""Steps of migrations that pass over what is there already.

MySQL commits with every statement that changes a table, so a migration that dies leaves its first
steps behind and its revision unwritten. The next run takes every step again.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op


def create_table(name: str, *columns: sa.schema.SchemaItem, **options: Any) -> None:
    # A table is made by one statement, whole or not at all, so one that is there is complete.
    op.create_table(name, *columns, if_not_exists=True, **options)


def create_index(name: str, table: str, columns: list[str]) -> None:
    # MySQL has no CREATE INDEX IF NOT EXISTS.
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def add_column(table: str, column: sa.Column[Any]) -> None:
    # Nor has MySQL ADD COLUMN IF NOT EXISTS.
    if column.name not in {one["name"] for one in sa.inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)
