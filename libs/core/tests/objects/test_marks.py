"""Metadata marks of objects: round trip, size and validation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.errors import InvalidArgument
from sluice_core.objects.marks import (
    is_of_upload,
    marked_path,
    marked_trace,
    path_mark,
    trace_mark,
    upload_mark,
)
from sluice_core.uploads.names import MAX_PATH_BYTES, normalize_path

_S3_METADATA_BYTES = 2048

TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"


def is_path(text: str) -> bool:
    try:
        return normalize_path(text) == text
    except InvalidArgument:
        return False


@pytest.mark.no_cover
@given(path=st.text(min_size=1, max_size=200).filter(is_path))
def test_path_mark_round_trips(path: str) -> None:
    mark = path_mark(path)
    assert marked_path(mark) == path
    assert all(value.isascii() and value.isprintable() for value in mark.values())


def test_the_longest_path_fits() -> None:
    path = "\N{SNOWMAN}" * (MAX_PATH_BYTES // 3)
    marks = {**path_mark(path), **trace_mark(TRACE)}
    assert sum(len(name) + len(value) for name, value in marks.items()) <= _S3_METADATA_BYTES
    assert marked_path(marks) == path
    assert marked_trace(marks) == TRACE


@pytest.mark.parametrize("value", ["", "00-x", f"{TRACE}\n", f"{TRACE}-more", "ff" + TRACE[2:]])
def test_trace_mark_of_strangers_is_checked(value: str) -> None:
    assert marked_trace({"sluice-trace": value}) == ""
    assert trace_mark("") == {}


def test_upload_mark_and_path_mark_are_distinct() -> None:
    assert is_of_upload(upload_mark("nonce-1"))
    assert not is_of_upload(path_mark("a.jpg"))
    assert marked_path(upload_mark("nonce-1")) is None


@pytest.mark.parametrize(
    "value", ["", "a", "ä", "YQ ", "/w", "_w", "Li4", "L2E", "YQBi", "YS9i\n", "=YQ"]
)
def test_invalid_path_mark_is_rejected(value: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        marked_path({"sluice-path": value})
    assert refused.value.reason == "BAD_PATH"


def test_invalid_path_is_never_marked() -> None:
    with pytest.raises(InvalidArgument):
        path_mark("../a")
