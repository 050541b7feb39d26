"""The event log source: no event is skipped."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.log.event_log import open_event_log
from sluice_core.errors import FailedPrecondition, Unavailable
from sluice_core.events.nodes import upload_completed
from sluice_core.ports.event_publisher import EventPublisher, EventRecord
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import RETRY_LATER_REASONS, Outcome, Work
from sluice_processor.options import ProcessorOptions
from sluice_processor.sources.log import LogSource, WakingPublisher
from sluice_processor.sources.log_dead_letters import LogDeadLetters
from support.commits import finished_upload
from support.waiting import until

OPTIONS = ProcessorOptions(
    concurrency=4, attempts=3, retry_base_seconds=0.01, handling_seconds=5.0, drain_seconds=0.5
)


class Handler:
    """Replaces the node processor; records its calls."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.done: list[str] = []
        self.final: list[bool] = []
        self.errors: dict[str, list[Exception]] = {}
        self.hold: Callable[[str], Awaitable[None]] | None = None

    async def process(self, work: Work) -> Outcome:
        self.asked.append(work.node_id)
        self.final.append(work.is_final)
        if self.hold is not None:
            await self.hold(work.node_id)
        if self.errors.get(work.node_id):
            raise self.errors[work.node_id].pop(0)
        self.done.append(work.node_id)
        return Outcome("processed")


def completed(node_id: str) -> EventRecord:

    commit = finished_upload("a.jpg", node_id=node_id)
    return upload_completed(commit, superseded_node_id="", occurred_at=1_000.0)


@asynccontextmanager
async def following(
    folder: Path,
    handler: Handler,
    options: ProcessorOptions = OPTIONS,
    metrics: ProcessorMetrics | None = None,
) -> AsyncIterator[EventPublisher]:
    """Run a source inside the block; yield the publisher of the log."""
    wake, stop = asyncio.Event(), asyncio.Event()
    async with open_event_log(folder / "events", fsync=False) as log:
        source = LogSource(
            folder / "events",
            folder / "state",
            wake,
            handler,  # type: ignore[arg-type]
            options,
            metrics or ProcessorMetrics(),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(source.run(stop))
            try:
                yield WakingPublisher(log, wake)
            finally:
                stop.set()


async def test_new_events_are_handled_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_processor.sources.log._POLL_SECONDS", 600.0)
    handler = Handler()
    async with following(tmp_path, handler) as log:
        for number in range(3):
            await log.publish([completed(f"n-{number}")])
            await until(lambda: len(handler.done) > number)  # noqa: B023 - awaited here


async def test_restart_resumes_at_saved_position(tmp_path: Path) -> None:
    handler = Handler()
    async with following(tmp_path, handler) as log:
        await log.publish([completed("a"), completed("b")])
        await until(lambda: len(handler.done) == 2)
    async with following(tmp_path, handler) as log:
        await log.publish([completed("c")])
        await until(lambda: "c" in handler.done)
    assert sorted(handler.asked) == ["a", "b", "c"]


async def test_slow_node_neither_blocks_others_nor_is_skipped(
    tmp_path: Path,
) -> None:
    handler = Handler()

    async def hold(node_id: str) -> None:
        if node_id == "slow":
            await asyncio.Event().wait()

    handler.hold = hold
    async with following(tmp_path, handler) as log:
        await log.publish([completed("slow"), completed("a"), completed("b")])
        await until(lambda: sorted(handler.done) == ["a", "b"])
    again = Handler()
    async with following(tmp_path, again):
        # Later events are repeated, because the position stays before it.
        await until(lambda: sorted(again.done) == ["a", "b", "slow"])


async def test_stop_waits_at_most_the_drain_time(tmp_path: Path) -> None:
    handler = Handler()

    async def forever(_node_id: str) -> None:
        await asyncio.Event().wait()

    handler.hold = forever
    loop = asyncio.get_running_loop()
    async with following(tmp_path, handler) as log:
        await log.publish([completed(f"n-{number}") for number in range(9)])
        await until(lambda: len(handler.asked) == OPTIONS.concurrency)
        begun = loop.time()
    assert loop.time() - begun < 30
    assert len(handler.asked) == OPTIONS.concurrency


async def test_transient_error_is_retried(tmp_path: Path) -> None:
    handler = Handler()
    handler.errors["a"] = [Unavailable("X", "…"), RuntimeError("…")]
    async with following(tmp_path, handler) as log:
        await log.publish([completed("a")])
        await until(lambda: "a" in handler.done)
    assert handler.asked == ["a"] * 3
    assert LogDeadLetters(tmp_path / "state").letters() == []


@pytest.mark.row(20)
@pytest.mark.parametrize(
    ("errors", "tries", "reason"),
    [
        ([FailedPrecondition("CRASHED", "The child died.")] * 9, 1, "CRASHED"),
        ([Unavailable("STORE_UNAVAILABLE", "…")] * 9, 3, "STORE_UNAVAILABLE"),
        ([RuntimeError("51.4778925")] * 9, 3, "HANDLER_FAILED"),
    ],
)
async def test_permanent_error_becomes_replayable_dead_letter(
    tmp_path: Path, errors: list[Exception], tries: int, reason: str
) -> None:
    handler = Handler()
    handler.errors["bad"] = list(errors)
    letters, metrics = LogDeadLetters(tmp_path / "state"), ProcessorMetrics()

    def counted() -> float | None:
        return metrics.registry.get_sample_value("sluice_dead_letters_total", {"group": "log"})

    async with following(tmp_path, handler, metrics=metrics) as log:
        assert counted() == 0
        await log.publish([completed("bad"), completed("good")])
        await until(lambda: "good" in handler.done and bool(letters.letters()))
        (letter,) = letters.letters()
        assert (letter.cause.reason, letter.cause.attempts) == (reason, tries)
        assert letter.record == completed("bad")
        assert "51.47" not in repr(letter.cause)
        handler.errors["bad"] = []
        assert letters.replay(letter.record.event_id)
        await log.publish([completed("next")])  # wakes the source at once
        await until(lambda: "bad" in handler.done)
    assert letters.letters() == []
    assert letters.to_replay() == []
    assert counted() == 1


BUSY = replace(OPTIONS, retries=2, retry_seconds=0.05)


@pytest.mark.parametrize("reason", sorted(RETRY_LATER_REASONS))
async def test_timeouts_are_retried_later_and_pass(tmp_path: Path, reason: str) -> None:
    handler = Handler()
    handler.errors["slow"] = [FailedPrecondition(reason, "…")] * 2
    letters = LogDeadLetters(tmp_path / "state")
    async with following(tmp_path, handler, BUSY) as log:
        await log.publish([completed("slow")])
        await until(lambda: handler.done == ["slow"] and letters.postponed() == [])
    assert handler.final == [False, False, True]
    assert letters.letters() == []


async def test_endless_timeouts_become_a_dead_letter(tmp_path: Path) -> None:
    handler = Handler()
    handler.errors["slow"] = [FailedPrecondition("TIMEOUT", "…")] * 9
    letters = LogDeadLetters(tmp_path / "state")
    async with following(tmp_path, handler, BUSY) as log:
        await log.publish([completed("slow"), completed("good")])
        await until(lambda: bool(letters.letters()) and letters.postponed() == [])
    assert handler.asked.count("slow") == 3
    (letter,) = letters.letters()
    assert letter.cause.reason == "TIMEOUT"
    assert "good" in handler.done


async def test_postponed_retries_survive_restart_and_are_counted(tmp_path: Path) -> None:
    handler = Handler()
    handler.errors["slow"] = [FailedPrecondition("TIMEOUT", "…")] * 9
    letters = LogDeadLetters(tmp_path / "state")
    patient = replace(BUSY, retry_seconds=3600.0)

    async def put_off(number: int) -> None:
        """Wait for a number of attempts and the next postponed retry; then make it due."""
        await until(lambda: [later.number for later in letters.postponed()] == [number])
        (later,) = letters.postponed()
        assert later.due > time.time() + 3000
        letters.postpone(replace(later, due=0.0))

    async with following(tmp_path, handler, patient) as log:
        await log.publish([completed("slow")])
        await until(lambda: bool(letters.postponed()))
    await put_off(1)
    async with following(tmp_path, handler, patient):
        await until(lambda: letters.postponed()[0].number == 2)
    await put_off(2)
    async with following(tmp_path, handler, patient):
        await until(lambda: bool(letters.letters()) and letters.postponed() == [])
    assert handler.final == [False, False, True]


async def test_failed_replay_is_a_dead_letter_again(tmp_path: Path) -> None:
    handler = Handler()
    handler.errors["bad"] = [FailedPrecondition("CRASHED", "…")] * 2
    letters = LogDeadLetters(tmp_path / "state")
    async with following(tmp_path, handler) as log:
        await log.publish([completed("bad")])
        await until(lambda: bool(letters.letters()))
        assert letters.replay(completed("bad").event_id)
        await log.publish([completed("next")])
        await until(lambda: handler.asked.count("bad") == 2 and bool(letters.letters()))
    assert letters.drop(completed("bad").event_id)
    assert not letters.drop(completed("bad").event_id)
    assert not letters.replay("unknown")


async def test_unreadable_event_becomes_a_dead_letter(tmp_path: Path) -> None:
    handler = Handler()
    bad = replace(completed("a"), payload=b"\xff\xff")
    letters = LogDeadLetters(tmp_path / "state")
    async with following(tmp_path, handler) as log:
        await log.publish([bad, completed("b")])
        await until(lambda: "b" in handler.done and bool(letters.letters()))
    assert [letter.cause.reason for letter in letters.letters()] == ["NOT_PROTOBUF"]


async def test_damaged_position_restarts_from_beginning(tmp_path: Path) -> None:
    handler = Handler()
    async with following(tmp_path, handler) as log:
        await log.publish([completed("a")])
        await until(lambda: "a" in handler.done)
    note = tmp_path / "state" / "position.json"
    assert json.loads(note.read_text())["offset"] > 0
    note.write_text("{")
    async with following(tmp_path, handler):
        await until(lambda: handler.done == ["a", "a"])


@pytest.mark.row(20)
async def test_damaged_dead_letter_is_renamed_and_skipped(tmp_path: Path) -> None:
    """People edit the directory, so it may contain any files."""
    handler = Handler()
    letters = LogDeadLetters(tmp_path / "state")
    for number, content in enumerate(("", "{", "[]", '{"reason": "X"}', "\x00")):
        for folder in ("replay", "dead-letters"):
            (tmp_path / "state" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "state" / folder / f"{number}.json").write_text(content)
    async with following(tmp_path, handler) as log:
        await log.publish([completed("a")])
        await until(lambda: handler.done == ["a"])
    assert letters.letters() == []
    for folder in ("replay", "dead-letters"):
        assert len(list((tmp_path / "state" / folder).glob("*.damaged"))) == 5


async def test_a_batch_before_a_damaged_segment_is_handled_once(tmp_path: Path) -> None:
    handler = Handler()
    async with following(tmp_path, handler) as log:
        await asyncio.sleep(0.05)
        damaged = tmp_path / "events" / "events-000002.jsonl"
        damaged.write_text("{\n")
        for node_id in ("a", "b", "c"):
            await log.publish([completed(node_id)])
            await asyncio.sleep(0.3)
        await until(lambda: handler.done == ["a", "b", "c"])
    assert handler.asked == ["a", "b", "c"]
