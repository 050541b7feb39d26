"""Conditions and ranges of downloads: the cases of RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_gateway.storage.ranges import (
    UNSATISFIABLE,
    ByteRange,
    Condition,
    Unsatisfiable,
    evaluate,
    range_applies,
    requested_range,
)

SIZE = 10


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=0-9", ByteRange(0, 10)),
        ("bytes=3-", ByteRange(3, 10)),
        ("bytes=3-99999999999999", ByteRange(3, 10)),
        ("bytes=-4", ByteRange(6, 10)),
        ("bytes=-99", ByteRange(0, 10)),
        ("Bytes = 1-2 ", ByteRange(1, 3)),
        ("bytes=10-", UNSATISFIABLE),
        ("bytes=10-20", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
        # Ignored: several ranges, other units, malformed ones.
        ("bytes=0-1,3-4", None),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("bytes=a-b", None),
        ("bytes=--1", None),
        ("bytes=１-２", None),
        ("items=0-1", None),
        ("0-1", None),
        (f"bytes=0-{'9' * 40}", None),
    ],
)
def test_range_header_is_understood(
    header: str | None, expected: ByteRange | Unsatisfiable | None
) -> None:
    assert requested_range(header, SIZE) == expected


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_empty_object_has_no_range(header: str) -> None:
    assert requested_range(header, 0) is UNSATISFIABLE


@given(st.text(max_size=30), st.integers(0, 100))
def test_any_range_lies_within_the_object(tail: str, size: int) -> None:
    found = requested_range(f"bytes={tail}", size)
    if isinstance(found, ByteRange):
        assert 0 <= found.start < found.stop <= size


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "expected"),
    [
        (None, None, Condition.MET),
        ('"a"', None, Condition.MET),
        ('"b", "a"', None, Condition.MET),
        ("*", None, Condition.MET),
        ('"b"', None, Condition.FAILED),
        ('W/"a"', None, Condition.FAILED),
        ("", None, Condition.FAILED),
        ("a", None, Condition.FAILED),
        (None, '"a"', Condition.NOT_MODIFIED),
        (None, 'W/"a"', Condition.NOT_MODIFIED),
        (None, '"b","a"', Condition.NOT_MODIFIED),
        (None, "*", Condition.NOT_MODIFIED),
        (None, '"b"', Condition.MET),
        (None, '"ab"', Condition.MET),
        ('"b"', '"a"', Condition.FAILED),
        ('"a"', '"a"', Condition.NOT_MODIFIED),
    ],
)
def test_conditions_are_evaluated_in_order(
    if_match: str | None, if_none_match: str | None, expected: Condition
) -> None:
    assert evaluate("a", if_match=if_match, if_none_match=if_none_match) is expected


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        ('"a"', True),
        ('"b"', False),
        ('W/"a"', False),
        ("Mon, 30 Nov 2026 06:00:00 GMT", False),
    ],
)
def test_if_range_names_this_very_object(if_range: str | None, applies: bool) -> None:
    assert range_applies(if_range, "a") is applies
