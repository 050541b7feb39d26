"""Plans of the listings: a page costs what it shows, however many photos lie before it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Select, create_engine, text

from sluice_backends.sql.photos.listing import listing
from sluice_backends.sql.schema import metadata
from sluice_core.photos.model import Owner
from sluice_core.ports.photos import ALL_PHOTOS, PhotoCursor, PhotoFilter, PhotoSort

OWNER = Owner("acme", "ann")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'catalogue.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


def plan_of(engine: Engine, statement: Select[Any]) -> list[str]:
    sql = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.connect() as connection:
        return [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {sql}"))]


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize(
    ("sort", "column", "value"),
    [
        (PhotoSort.CREATED, "created_at", 1.5),
        (PhotoSort.DATED, "dated_at", 1.5),
        (PhotoSort.FILENAME, "filename", "a.jpg"),
    ],
)
def test_a_page_is_a_range_of_an_index(
    engine: Engine, sort: PhotoSort, column: str, value: float | str, descending: bool
) -> None:
    """Without a sort, from the cursor on."""
    wanted = PhotoFilter(sort=sort, descending=descending)
    after = PhotoCursor(value, "ph_1")
    (step,) = plan_of(engine, listing(OWNER, wanted, after).limit(10))
    assert f"INDEX ix_photos_tenant_user_id_{column}_photo_id" in step
    bound = "<" if descending else ">"
    assert f"(tenant=? AND user_id=? AND {column}{bound}?)" in step


def test_the_first_page_is_not_sorted(engine: Engine) -> None:
    plan = plan_of(engine, listing(OWNER, ALL_PHOTOS, None).limit(10))
    assert not [step for step in plan if "TEMP B-TREE" in step]


def test_a_time_of_photos_is_a_range_of_the_index(engine: Engine) -> None:
    wanted = PhotoFilter(sort=PhotoSort.DATED, taken_from=1.0, taken_to=2.0)
    (step,) = plan_of(engine, listing(OWNER, wanted, None).limit(10))
    assert "dated_at>? AND dated_at<?" in step
