"""What measures and compares pages: it sees what it should, and fails where it should."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, ImageDraw

from browsers.support.frames import Frames, frame_work
from browsers.support.screenshots import difference_of


def event(
    name: str, at_ms: float, phase: str = "X", thread: int = 2, **more: Any
) -> dict[str, Any]:
    return {"name": name, "ts": at_ms * 1000, "ph": phase, "pid": 1, "tid": thread, **more}


def main_thread(thread: int) -> dict[str, Any]:
    return event("thread_name", 0, "M", thread, args={"name": "CrRendererMain"})


def work(name: str, at_ms: float, wall_ms: float, processor_ms: float) -> dict[str, Any]:
    return event(name, at_ms, dur=wall_ms * 1000, tdur=processor_ms * 1000)


def test_work_is_counted_once_in_its_frame() -> None:
    """Nested events, other threads and what the browser does beside count nothing."""
    trace = [
        main_thread(2),
        main_thread(3),
        *(event("AnimationFrame", at, "b") for at in (10, 26, 42, 58)),
        event("AnimationFrame", 12, "b", thread=3),
        work("FunctionCall", 5, 4, 4),  # before the first frame
        work("FunctionCall", 11, 6, 4),
        work("Layout", 12, 2, 2),  # within that call
        work("UpdateLayoutTree", 20, 1, 1),
        work("RunTask", 21, 3, 3),
        work("TimerFire", 45, 30, 12),
        event("FunctionCall", 30, thread=3, dur=9000, tdur=9000),
    ]
    assert frame_work(trace) == [5.0, 0.0, 12.0]


def test_figures_of_frames() -> None:
    frames = Frames([0, 20, 40, 160], [1, 2, 3, 40])
    assert frames.per_second == pytest.approx(18.75)
    assert frames.longest_gap == 120
    assert [frames.work_at(share) for share in (0.5, 0.75, 1)] == [2, 3, 40]
    assert frames.on_time_share == 0.75


def picture(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (200, 100)) -> bytes:
    image = Image.new("RGB", size, "#202030")
    for box in boxes:
        ImageDraw.Draw(image).rectangle(box, fill="#8040f0")
    output = io.BytesIO()
    image.save(output, "PNG")
    return output.getvalue()


def test_equal_and_slightly_different_pictures_pass() -> None:
    before = picture((10, 10, 60, 40))
    assert difference_of(before, before) is None
    assert difference_of(before, picture((10, 10, 61, 40))) is None


def test_moved_and_resized_pictures_are_different() -> None:
    before = picture((10, 10, 60, 40))
    moved = difference_of(before, picture((20, 10, 70, 40)))
    assert moved == "3.10% of the pixels differ, within (10, 10, 71, 41)"
    larger = difference_of(before, picture((10, 10, 60, 40), size=(200, 101)))
    assert larger == "the size is (200, 101) instead of (200, 100)"
