"""How frames of a busy page are judged beside those of an idle one."""

from __future__ import annotations

from browsers.support.frames import FRAME_MS, Frames, compared

START = 1_000_000.0


def regular(seconds: float, every_ms: float = FRAME_MS) -> list[float]:
    """Return times of frames at this distance."""
    return [START + number * every_ms for number in range(int(seconds * 1000 / every_ms) + 1)]


def without(times: list[float], begin: float, end: float) -> list[float]:
    """Drop the frames between two times, in seconds since the start."""
    return [time for time in times if not begin < (time - START) / 1000 < end]


def test_two_idle_pages_are_equal() -> None:
    found = compared(Frames(regular(10)), Frames(regular(10)))
    assert (found.seconds, found.quiet) == (10, 10)
    assert found.share == 1
    assert found.longest < 2 * FRAME_MS
    assert found.is_telling


def test_page_that_lacks_frames_is_found() -> None:
    found = compared(Frames(regular(10)), Frames(regular(10, 2 * FRAME_MS)))
    assert found.is_telling
    assert 0.4 < found.share < 0.6


def test_one_long_frame_is_found() -> None:
    found = compared(Frames(regular(10)), Frames(without(regular(10), 3.2, 3.4)))
    assert found.is_telling
    assert found.longest > 180


def test_seconds_in_which_both_are_slowed_down_do_not_count() -> None:
    """The machine was busy, not the page."""
    slow = without(regular(10), 3.2, 3.5)
    found = compared(Frames(slow), Frames(slow))
    assert (found.seconds, found.quiet) == (10, 9)
    assert found.longest < 2 * FRAME_MS
    assert found.share == 1


def test_busy_machine_allows_no_judgement() -> None:
    slow = regular(10, 1.2 * FRAME_MS)
    found = compared(Frames(slow), Frames(regular(10, 3 * FRAME_MS)))
    assert not found.is_telling
    assert found.quiet == 0
