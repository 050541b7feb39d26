"""Frames of a page in Chromium: how many there are, and the work of the main thread in each."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor
from typing import Any, Final

from playwright.async_api import Browser, Page

FRAME_MS: Final = 1000 / 60
MIN_IDLE_FRAMES: Final = 57
MAX_IDLE_MS: Final = 2.5 * FRAME_MS
"""Of an idle page, in a second in which the machine is quiet enough to judge another one by."""
MIN_QUIET_SECONDS: Final = 5
MIN_QUIET_SHARE: Final = 0.25
_CATEGORIES: Final = ["devtools.timeline"]
_FRAME: Final = ("AnimationFrame", "b")
_MAIN_THREAD: Final = "CrRendererMain"
# Script, style, layout. Of nested events the outermost counts.
_WORK: Final = frozenset(
    {
        *("EvaluateScript", "FunctionCall", "FireAnimationFrame", "TimerFire", "EventDispatch"),
        *("RunMicrotasks", "v8.run", "XHRReadyStateChange", "XHRLoad", "MinorGC", "MajorGC"),
        *("UpdateLayoutTree", "Layout", "RecalcStyle", "HitTest", "IntersectionObserverController"),
    }
)
_COUNT_FRAMES: Final = """
() => {
  window.frameTimes = [];
  const note = (time) => {
    // Since 1970, so that two pages can be compared.
    window.frameTimes.push(performance.timeOrigin + time);
    window.frameLoop = requestAnimationFrame(note);
  };
  window.frameLoop = requestAnimationFrame(note);
}
"""
_STOP_COUNTING: Final = (
    "() => { cancelAnimationFrame(window.frameLoop); return window.frameTimes; }"
)


@dataclass
class Frames:
    """What was measured; times in milliseconds.

    times: when each frame began, since 1970.
    work: processor time of script, style and layout between the beginnings of two frames.
    """

    times: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return (len(self.times) - 1) / (self.times[-1] - self.times[0]) * 1000

    @property
    def longest_gap(self) -> float:
        return max(after - before for before, after in pairwise(self.times))

    def work_at(self, share: float) -> float:
        """Return a quantile of the work of frames; 1.0: the largest."""
        ordered = sorted(self.work)
        return ordered[ceil(len(ordered) * share) - 1]

    @property
    def on_time_share(self) -> float:
        """Share of the frames whose work fits into one sixtieth of a second of processor time."""
        return sum(each <= FRAME_MS for each in self.work) / len(self.work)

    def described(self) -> str:
        """Return the figures in one line."""
        line = (
            f"{len(self.times)} frames, {self.per_second:.1f} a second, "
            f"longest gap {self.longest_gap:.0f} ms"
        )
        if not self.work:
            return line
        return (
            f"{line}; work mean {statistics.mean(self.work):.2f} p95 {self.work_at(0.95):.2f} "
            f"p99 {self.work_at(0.99):.2f} max {self.work_at(1):.1f} ms, "
            f"{self.on_time_share:.1%} on time"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """A page beside an idle one, in those seconds in which the machine had time for both.

    seconds, quiet: of both pages; those in which the idle one had nearly all of its frames.
    idle, busy: frames in the quiet seconds.
    longest: the longest frame of the busy page that ended in one of them, in milliseconds.
    """

    seconds: int
    quiet: int
    idle: int
    busy: int
    longest: float

    @property
    def is_telling(self) -> bool:
        """Whether there is enough to judge the page by, and not the machine."""
        return self.quiet >= max(MIN_QUIET_SECONDS, self.seconds * MIN_QUIET_SHARE)

    @property
    def share(self) -> float:
        """Frames of the busy page for each one of the idle page."""
        return self.busy / self.idle if self.idle else 0.0

    def described(self) -> str:
        """Return the figures in one line."""
        verdict = "" if self.is_telling else "; too few to judge frames by wall time"
        return (
            f"{self.quiet} of {self.seconds} s quiet: {self.share:.2f} of the idle page's frames, "
            f"the longest {self.longest:.0f} ms{verdict}"
        )


def compared(idle: Frames, busy: Frames) -> Comparison:
    """Compare two pages second by second.

    Other processes slow both of them down: a second in which the idle page lacks frames says
    nothing of the other one.
    """
    first = ceil(max(idle.times[0], busy.times[0]) / 1000)
    last = floor(min(idle.times[-1], busy.times[-1]) / 1000)
    idle_gaps, busy_gaps = _gaps_by_second(idle.times), _gaps_by_second(busy.times)
    quiet = [
        second
        for second in range(first, last)
        if len(idle_gaps[second]) >= MIN_IDLE_FRAMES and max(idle_gaps[second]) <= MAX_IDLE_MS
    ]
    return Comparison(
        seconds=max(0, last - first),
        quiet=len(quiet),
        idle=sum(len(idle_gaps[second]) for second in quiet),
        busy=sum(len(busy_gaps[second]) for second in quiet),
        longest=max((gap for second in quiet for gap in busy_gaps[second]), default=0.0),
    )


def _gaps_by_second(times: Sequence[float]) -> Mapping[int, Sequence[float]]:
    """Return how long each frame was, by the second in which it ended."""
    gaps: defaultdict[int, list[float]] = defaultdict(list)
    for before, after in pairwise(times):
        gaps[int(after // 1000)].append(after - before)
    return gaps


@asynccontextmanager
async def counted_frames(page: Page) -> AsyncIterator[Frames]:
    """Note the times of a page's frames while the block runs, without their work."""
    found = Frames()
    await page.evaluate(_COUNT_FRAMES)
    yield found
    found.times += await page.evaluate(_STOP_COUNTING)


@asynccontextmanager
async def measured_frames(browser: Browser, page: Page) -> AsyncIterator[Frames]:
    """Measure the frames of a page while the block runs."""
    await browser.start_tracing(page=page, categories=_CATEGORIES)
    async with counted_frames(page) as found:
        yield found
    trace = json.loads(await browser.stop_tracing())
    found.work += frame_work(trace["traceEvents"])


def frame_work(events: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the work of the page in each frame, in milliseconds of processor time.

    The main thread is that with the most frames. Processor time instead of wall time, because
    others use this machine as well.
    """
    named = {
        (event["pid"], event["tid"])
        for event in events
        if event.get("name") == "thread_name" and event["args"].get("name") == _MAIN_THREAD
    }
    begun: dict[tuple[int, int], list[float]] = {thread: [] for thread in named}
    for event in events:
        thread = (event.get("pid", 0), event.get("tid", 0))
        if (event.get("name"), event.get("ph")) == _FRAME and thread in begun:
            begun[thread].append(event["ts"])
    thread = max(begun, key=lambda one: len(begun[one]))
    starts = sorted(begun[thread])
    work = [0.0] * max(0, len(starts) - 1)
    at, busy_until = -1, 0.0
    tasks = (
        event
        for event in events
        if event.get("ph") == "X"
        and event.get("name") in _WORK
        and (event["pid"], event["tid"]) == thread
    )
    for event in sorted(tasks, key=lambda one: float(one["ts"])):
        begin = float(event["ts"])
        if begin < busy_until:
            continue  # a part of the event before
        busy_until = begin + float(event.get("dur", 0))
        while at + 1 < len(starts) and starts[at + 1] <= begin:
            at += 1
        if 0 <= at < len(work):
            work[at] += float(event.get("tdur", event.get("dur", 0))) / 1000
    return work


async def heap_bytes(page: Page) -> float:
    """Return the size of the page's heap after a forced collection."""
    session = await page.context.new_cdp_session(page)
    try:
        for _ in range(3):  # what finalizers release goes in the next one
            await session.send("HeapProfiler.collectGarbage")
        await session.send("Performance.enable")
        metrics = (await session.send("Performance.getMetrics"))["metrics"]
    finally:
        await session.detach()
    return float(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize"))
