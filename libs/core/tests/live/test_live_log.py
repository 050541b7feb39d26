"""The log of updates against a model that keeps everything, and the rules of merging."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.live.log import Entry, LiveLog, next_sequence
from sluice_core.live.updates import (
    MAX_FIELD_CHARS,
    ProgressTick,
    Update,
    merge_tick,
    merge_update,
)

STEPS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 3)), max_size=40)


def photo(name: str = "p", status: str = "UPLOADING", sent: int = 0, version: int = 1) -> Update:
    return Update("job", name, status, sent, 100, version)


@given(STEPS, st.integers(1, 4), st.integers(0, 5))
def test_reader_reaches_the_newest_states_or_is_refused(
    steps: list[tuple[str, int]], capacity: int, floor: int
) -> None:
    """From every cursor: applying what follows gives the newest states, or `after` says None."""
    log = LiveLog(floor, capacity)
    appended: list[Entry] = []
    for name, gap in steps:
        entry = Entry(log.last + gap, photo(name, version=len(appended)))
        log.append(entry)
        appended.append(entry)
    newest = {entry.update.key: entry for entry in appended}
    assert len(log) <= capacity
    for cursor in range(log.last + 3):
        after = log.after(cursor)
        expected = sorted(
            (entry for entry in newest.values() if entry.sequence > cursor),
            key=lambda entry: entry.sequence,
        )
        if after is None:
            assert cursor < log.floor or cursor > log.last
        else:
            assert after == expected
    assert log.after(log.last) == []
    assert log.after(log.floor) is not None, "the floor is the lowest cursor that works"


@given(STEPS, st.integers(1, 4), st.integers(1, 3))
def test_reading_in_pieces_ends_at_the_newest_state(
    steps: list[tuple[str, int]], at_most: int, capacity: int
) -> None:
    log = LiveLog(0, capacity)
    for name, gap in steps:
        log.append(Entry(log.last + gap, photo(name)))
    cursor, seen = log.floor, []
    while piece := log.after(cursor, at_most):
        assert len(piece) <= at_most
        seen += piece
        cursor = piece[-1].sequence
    assert seen == log.after(log.floor)


def test_restarted_log_refuses_cursors_from_before() -> None:
    log = LiveLog(0)
    log.append(Entry(5, photo("a")))
    log.restart([Entry(105, photo("b"))], floor=100, last=110)
    assert log.after(5) is None
    assert log.after(100) == [Entry(105, photo("b"))]
    assert (log.floor, log.last, log.find("a")) == (100, 110, None)


def test_sequences_must_grow() -> None:
    log = LiveLog(7)
    with pytest.raises(ValueError, match="grow"):
        log.append(Entry(7, photo()))


def test_sequence_is_the_time_unless_that_was_used() -> None:
    assert next_sequence(0, 1000) == 1000
    assert next_sequence(1000, 1000) == 1001
    assert next_sequence(5000, 1000) == 5001, "the clock was set back"


@pytest.mark.parametrize(
    ("status", "sent", "percent"),
    [
        ("QUEUED", 0, 0),
        ("UPLOADING", 57, 57),
        ("UPLOADING", 100, 99),
        ("PROCESSING", 100, 100),
        ("COMPLETED", 0, 100),
        ("FAILED", 30, 30),
    ],
)
def test_progress_is_100_once_the_store_has_all(status: str, sent: int, percent: int) -> None:
    assert photo(status=status, sent=sent).progress == percent
    assert Update("job", "p", "QUEUED", 0, 0, 1).progress == 0


@pytest.mark.parametrize(
    ("status", "percent"),
    [
        ("QUEUED", 0),
        ("IN_PROGRESS", 99),
        ("COMPLETED", 100),
        ("COMPLETED_WITH_ERRORS", 100),
        ("FAILED", 100),
        ("CANCELLED", 100),
    ],
)
def test_job_shows_100_at_its_end_and_not_before(status: str, percent: int) -> None:
    """However it ended, as the queries do: a job with a failed photo does not stay at 99."""
    sent = 0 if status == "QUEUED" else 100
    assert Update("job", "", status, sent, 100, 1).progress == percent


STATES = st.builds(
    Update,
    st.just("job"),
    st.just("p"),
    st.sampled_from(["QUEUED", "UPLOADING", "PROCESSING", "FAILED"]),
    st.integers(0, 100),
    st.just(100),
    st.integers(0, 5),
)
TICKS = st.builds(ProgressTick, st.just("job"), st.just("p"), st.integers(0, 150), st.just(150))


@given(STATES, st.one_of(STATES, TICKS))
def test_merging_is_idempotent_and_never_goes_back(
    known: Update, change: Update | ProgressTick
) -> None:
    if isinstance(change, Update):
        merged = merge_update(known, change)
        assert (merged is None) == (change.version <= known.version)
        assert merged is None or merge_update(merged, change) is None
    else:
        merged = merge_tick(known, change)
        assert merged is None or merge_tick(merged, change) is None
        assert merged is None or merged.version == known.version
    started = {"QUEUED", "UPLOADING"}
    if merged is not None and {known.status, merged.status} <= started:
        assert known.bytes_sent <= merged.bytes_sent <= merged.bytes_total


def test_retried_photo_begins_anew() -> None:
    failed = photo(status="FAILED", sent=80)
    retried = photo(status="QUEUED", version=2)
    assert merge_update(failed, retried) == retried


@pytest.mark.parametrize(
    "change",
    [
        {"job_id": ""},
        {"status": ""},
        {"job_id": "a\tb"},
        {"photo_id": "a\nb"},
        {"reason": "x" * (MAX_FIELD_CHARS + 1)},
        {"bytes_sent": -1},
        {"version": -1},
    ],
)
def test_update_with_a_bad_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"field|names|start at 0"):
        replace(photo(), **change)


@pytest.mark.parametrize(("sent", "total"), [(-1, 5), (6, 5)])
def test_tick_beyond_its_total_is_refused(sent: int, total: int) -> None:
    with pytest.raises(ValueError, match="total"):
        ProgressTick("job", "p", sent, total)
