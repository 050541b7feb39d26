"""Board: correct chunk states across any sequence of streams."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_client.model import ChunkRange, UploadState, UploadStatus
from sluice_client.uploads.board import Board, gaps, missing_of

STATUS = UploadStatus(
    upload_id="u",
    node_id="n",
    drive="d",
    path="p",
    state=UploadState.UPLOADING,
    sequence=1,
    received_bytes=0,
    received_chunks=0,
    stored_bytes=0,
    stored_chunks=0,
    total_chunks=None,
    expected_size=None,
    chunk_size=None,
    missing=(),
    missing_truncated=False,
    failure_reason="",
    failure_detail="",
    created_at=None,
    updated_at=None,
    expires_at=None,
    crc32c=None,
    sha256=None,
)


def status_of(received: set[int], total: int | None, most_ranges: int = 1000) -> UploadStatus:
    """Return the status of a server with these chunks."""
    end = total if total is not None else max(received, default=-1) + 1
    ranges: list[ChunkRange] = []
    for number in range(end):
        if number in received:
            continue
        if ranges and ranges[-1].last == number - 1:
            ranges[-1] = ChunkRange(ranges[-1].first, number)
        else:
            ranges.append(ChunkRange(number, number))
    return replace(
        STATUS,
        received_chunks=len(received),
        total_chunks=total,
        missing=tuple(ranges[:most_ranges]),
        missing_truncated=len(ranges) > most_ranges,
    )


chunk_sets = st.sets(st.integers(0, 30))


@given(chunk_sets, st.integers(31, 40), st.booleans())
def test_gaps_are_exactly_what_the_server_lacks(
    received: set[int], total: int, total_is_known: bool
) -> None:
    ranges, horizon = gaps(status_of(received, total if total_is_known else None), total)
    named = {number for gap in ranges for number in range(gap.first, gap.last + 1)}
    assert horizon == total
    assert named == set(range(total)) - received


@given(chunk_sets, st.integers(1, 5), chunk_sets)
def test_truncated_list_never_hides_a_missing_chunk(
    received: set[int], most_ranges: int, asked: set[int]
) -> None:
    status = status_of(received, 40, most_ranges)
    assert missing_of(status, asked) >= asked - received


def test_chunk_beyond_an_unknown_end_is_not_received() -> None:
    assert missing_of(status_of({0, 1}, total=2), {1, 2, 5}) == {2, 5}
    board = Board(None)
    taken = [board.take() for _ in range(4)]
    board.end_at(2)
    for number in taken:
        assert number is not None
        board.give_back(number)
    assert [board.take(), board.take(), board.take()] == [0, 1, None]


def test_truncated_list_without_ranges_is_ignored() -> None:
    status = replace(STATUS, missing_truncated=True)
    assert gaps(status, 4) == ([ChunkRange(0, 3)], 4)


def test_chunks_are_taken_in_order_once() -> None:
    board = Board(3)
    assert [board.take() for _ in range(4)] == [0, 1, 2, None]


def test_returned_chunk_comes_before_later_ones() -> None:
    board = Board(5)
    for _ in range(3):
        board.take()
    board.give_back(1)
    assert [board.take(), board.take()] == [1, 3]


def test_preferred_chunk_is_first_then_in_order() -> None:
    board = Board(8)
    board.prefer(5)
    assert [board.take() for _ in range(4)] == [5, 6, 7, 0]


def test_preferring_a_chunk_in_flight_is_a_no_op() -> None:
    board = Board(4)
    board.take()
    board.prefer(0)
    assert board.take() == 1


def test_stream_never_gets_a_chunk_below_what_it_carries() -> None:
    """Behind a delayed chunk, the one that the server waits for would wait for ever."""
    board = Board(6)
    taken = [board.take() for _ in range(4)]
    board.give_back(1)
    assert taken == [0, 1, 2, 3]
    assert board.take(above=3) is None
    assert board.take(above=0) == 1


def test_open_end_yields_numbers_until_the_source_ends() -> None:
    board = Board(None)
    assert [board.take() for _ in range(3)] == [0, 1, 2]
    board.end_at(2)
    board.give_back(2)
    assert board.take() is None
    board.accept(0)
    assert not board.finished
    board.accept(1)
    assert board.finished


def test_status_reveals_received_and_lost_chunks() -> None:
    board = Board(6)
    for number in range(4):
        board.take()
        board.accept(number)
    found, lost = board.apply(*gaps(status_of({0, 1, 3, 4}, 6), 6))
    assert (found, lost) == ([4], [2])
    board.take_back(2)
    assert [board.take(), board.take(), board.take()] == [2, 5, None]


def test_chunks_beyond_the_horizon_wait_for_the_next_status() -> None:
    received = {0, 2, 4, 6}
    board = Board(8)
    board.apply(*gaps(status_of(received, 8, most_ranges=2), 8))
    assert [board.take(), board.take(), board.take()] == [1, 3, None]
    board.apply(*gaps(status_of(received | {1, 3}, 8), 8))
    assert [board.take(), board.take(), board.take()] == [5, 7, None]


@pytest.mark.parametrize("total", [None, 3])
def test_accepting_twice_counts_once(total: int | None) -> None:
    board = Board(total)
    board.take()
    assert board.accept(0)
    assert not board.accept(0)
    assert board.accepted_count == 1


@given(st.data(), st.integers(1, 12))
def test_every_chunk_is_accepted_exactly_once(data: st.DataObject, total: int) -> None:
    board = Board(total)
    on_its_way: set[int] = set()
    accepted: set[int] = set()
    for _ in range(data.draw(st.integers(0, 60))):
        step = data.draw(st.sampled_from(["take", "accept", "give_back", "prefer"]))
        if step == "take":
            above = data.draw(st.integers(-1, total))
            number = board.take(above)
            assert number is None or (number > above and number not in on_its_way | accepted)
            on_its_way |= set() if number is None else {number}
        elif step == "prefer":
            board.prefer(data.draw(st.integers(0, total + 1)))
        elif on_its_way:
            number = data.draw(st.sampled_from(sorted(on_its_way)))
            on_its_way.discard(number)
            if step == "accept":
                accepted.add(number)
                board.accept(number)
            else:
                board.give_back(number)
    for number in on_its_way:
        board.accept(number)
    accepted |= on_its_way
    rest = []
    while (number := board.take()) is not None:
        rest.append(number)
        board.accept(number)
    assert sorted(rest) == sorted(set(range(total)) - accepted)
    assert board.finished


def test_checksums_are_known_when_every_chunk_has_one() -> None:
    board = Board(2)
    board.note_crc(1, 11)
    assert board.known_crcs() is None
    assert board.numbers_without_crc() == [0]
    board.note_crc(0, 0)
    assert board.known_crcs() == [0, 11]
