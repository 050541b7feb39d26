"""Event log: CloudEvents by line, crashes, segments and positions."""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sluice_backends.log import event_log as event_log
from sluice_backends.log.event_log import (
    BEGINNING,
    LogPosition,
    end_of_log,
    open_event_log,
    read_events,
)
from sluice_core.errors import DataLoss, ResourceExhausted
from sluice_core.events.cloudevents import from_line, to_line
from sluice_core.ports.event_publisher import EventRecord


def event(number: int) -> EventRecord:
    return EventRecord(
        event_id=f"id-{number}",
        type="sluice.events.v1.UploadCompleted",
        topic="sluice.uploads.v1",
        key="node-1",
        tenant="default",
        occurred_at=1_700_000_000.25 + number,
        payload=b"\x00\xff payload",
        headers={"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
    )


async def ids(path: Path, after: LogPosition = BEGINNING) -> list[str]:
    return [logged.record.event_id async for logged in read_events(path, after)]


def segments(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


# ------------------------------------------------------------------ the format


def test_line_is_a_structured_cloudevent() -> None:
    line = to_line(event(0))
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "specversion": "1.0",
        "id": "id-0",
        "type": "sluice.events.v1.UploadCompleted",
        "source": "sluice",
        "time": "2023-11-14T22:13:20.250000Z",
        "subject": "node-1",
        "datacontenttype": "application/protobuf",
        "sluicetopic": "sluice.uploads.v1",
        "sluicetenant": "default",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "data_base64": base64.b64encode(b"\x00\xff payload").decode(),
    }


@given(
    st.builds(
        EventRecord,
        event_id=st.text(),
        type=st.text(),
        topic=st.text(),
        key=st.text(),
        tenant=st.text(),
        occurred_at=st.integers(0, 4_000_000_000).map(float),
        payload=st.binary(),
        headers=st.dictionaries(
            st.one_of(st.text(), st.sampled_from(["id", "time", "sluiceheaders", "x-trace"])),
            st.text(),
        ),
    )
)
def test_any_event_round_trips_as_one_line(record: EventRecord) -> None:
    line = to_line(record)
    assert line.count(b"\n") == 1
    assert from_line(line) == record


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"specversion":"1.0"}',
        to_line(event(0)).replace(b'"data_base64":"', b'"data_base64":"*'),
        to_line(event(0)).replace(b'"1.0"', b'"2.0"'),
    ],
)
def test_line_that_is_not_an_event_is_rejected(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's and base64's own errors are ValueErrors
        from_line(line)


# ------------------------------------------------------------------ crashes


@pytest.mark.parametrize("torn_bytes", [1, 50, len(to_line(event(2))) - 1])
async def test_torn_last_line_is_truncated_with_a_warning(torn_bytes: int, tmp_path: Path) -> None:
    async with open_event_log(tmp_path, fsync=False) as log:
        await log.publish([event(0), event(1)])
    with (tmp_path / "events-000001.jsonl").open("ab") as file:
        file.write(to_line(event(2))[:torn_bytes])
    assert await ids(tmp_path) == ["id-0", "id-1"]
    with structlog.testing.capture_logs() as logs:
        async with open_event_log(tmp_path, fsync=False) as log:
            await log.publish([event(3)])
    assert [(entry["event"], entry["torn_bytes"]) for entry in logs] == [
        ("event_log.truncated", torn_bytes)
    ]
    assert await ids(tmp_path) == ["id-0", "id-1", "id-3"]


async def test_torn_line_longer_than_one_read_is_truncated(tmp_path: Path) -> None:
    async with open_event_log(tmp_path, fsync=False) as log:
        await log.publish([event(0)])
    for torn in (b"x" * 200_000, b"x"):
        with (tmp_path / "events-000001.jsonl").open("ab") as file:
            file.write(torn)
        async with open_event_log(tmp_path, fsync=False):
            assert await ids(tmp_path) == ["id-0"]


async def test_log_of_one_torn_line_starts_empty(tmp_path: Path) -> None:
    (tmp_path / "events-000001.jsonl").write_bytes(b'{"specversion"')
    async with open_event_log(tmp_path, fsync=False) as log:
        await log.publish([event(0)])
    assert await ids(tmp_path) == ["id-0"]


async def test_write_after_a_partial_write_is_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    whole = len(to_line(event(1)))

    def until_full(fd: int, data: bytes) -> int:
        if len(data) <= whole:
            raise OSError(errno.ENOSPC, "full")
        return write(fd, memoryview(data)[: whole + 10])

    async with open_event_log(tmp_path, fsync=False) as log:
        await log.publish([event(0)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", until_full)
            with pytest.raises(ResourceExhausted):
                await log.publish([event(1), event(2)])
        # A reader may be past the line that was whole, so that one stays and comes twice.
        assert await ids(tmp_path) == ["id-0", "id-1"]
        await log.publish([event(1), event(2)])
    assert await ids(tmp_path) == ["id-0", "id-1", "id-1", "id-2"]


# ------------------------------------------------------------------ segments and positions


async def test_full_segment_is_followed_by_a_new_one(tmp_path: Path) -> None:
    for start in (0, 5):
        async with open_event_log(tmp_path, fsync=True, segment_bytes=1000) as log:
            for number in range(start, start + 5):
                await log.publish([event(number)])
    names = segments(tmp_path)
    assert names[:2] == ["events-000001.jsonl", "events-000002.jsonl"]
    assert len(names) >= 4
    assert await ids(tmp_path) == [f"id-{number}" for number in range(10)]


async def test_reading_resumes_after_any_position(tmp_path: Path) -> None:
    async with open_event_log(tmp_path, fsync=False, segment_bytes=1000) as log:
        for number in range(8):
            await log.publish([event(number)])
    positions = [logged.position async for logged in read_events(tmp_path)]
    assert positions == sorted(positions)
    for number, position in enumerate(positions):
        assert await ids(tmp_path, position) == [f"id-{n}" for n in range(number + 1, 8)]


async def test_removed_segments_are_skipped(tmp_path: Path) -> None:
    async with open_event_log(tmp_path, fsync=False, segment_bytes=100) as log:
        for number in range(3):
            await log.publish([event(number)])
        (tmp_path / "events-000001.jsonl").unlink()
        assert await ids(tmp_path) == ["id-1", "id-2"]
        assert await ids(tmp_path, LogPosition(1, 50)) == ["id-1", "id-2"]


async def test_reader_follows_a_log_that_is_being_written(tmp_path: Path) -> None:
    seen: list[str] = []
    position = BEGINNING
    async with open_event_log(tmp_path, fsync=False, segment_bytes=1000) as log:
        for number in range(6):
            await log.publish([event(number)])
            async for logged in read_events(tmp_path, position):
                seen.append(logged.record.event_id)
                position = logged.position
    assert seen == [f"id-{number}" for number in range(6)]


async def test_end_of_log_is_after_its_last_complete_line(tmp_path: Path) -> None:
    assert await end_of_log(tmp_path) == BEGINNING
    async with open_event_log(tmp_path, fsync=False, segment_bytes=1000) as log:
        for number in range(5):
            await log.publish([event(number)])
    with max(tmp_path.iterdir()).open("ab") as file:
        file.write(b'{"torn')
    last = [logged.position async for logged in read_events(tmp_path)][-1]
    assert await end_of_log(tmp_path) == last


async def test_damaged_line_raises_data_loss_after_earlier_events(tmp_path: Path) -> None:
    async with open_event_log(tmp_path, fsync=False) as log:
        await log.publish([event(0)])
    with (tmp_path / "events-000001.jsonl").open("ab") as file:
        file.write(b"\x00\x00\n")
    with pytest.raises(DataLoss) as caught:
        await ids(tmp_path)
    assert caught.value.reason == "EVENT_LOG_DAMAGED"


async def test_events_before_a_damaged_line_are_read(tmp_path: Path) -> None:
    async with open_event_log(tmp_path, fsync=False) as log:
        await log.publish([event(0), event(1)])
    with (tmp_path / "events-000001.jsonl").open("ab") as file:
        file.write(b"no event\n")
    events = read_events(tmp_path)
    assert [(await anext(events)).record.event_id for _ in range(2)] == ["id-0", "id-1"]
    with pytest.raises(DataLoss):
        await anext(events)


# ------------------------------------------------------------------ a half-written last line


def on_parsing(
    monkeypatch: pytest.MonkeyPatch, marker: bytes, action: Callable[[], object]
) -> None:
    """Call a function when the reader first parses a line that contains `marker`."""
    actions = [action]

    def parse(line: bytes) -> EventRecord:
        if marker in line and actions:
            actions.pop()()
        return from_line(line)

    monkeypatch.setattr(event_log, "from_line", parse)


@pytest.mark.parametrize("cut", [1, 40, -1])
async def test_unfinished_last_line_is_not_read(tmp_path: Path, cut: int) -> None:
    segment = tmp_path / "events-000001.jsonl"
    segment.write_bytes(to_line(event(0)) + to_line(event(1))[:cut])
    assert await ids(tmp_path) == ["id-0"]
    segment.write_bytes(to_line(event(0)) + to_line(event(1)))
    assert await ids(tmp_path) == ["id-0", "id-1"]


async def test_line_completed_between_reads_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is written after the reader saw the beginning and before its next read."""
    segment, line = tmp_path / "events-000001.jsonl", to_line(event(1))
    segment.write_bytes(to_line(event(0)) + line[:40])

    def complete() -> None:
        with segment.open("ab") as file:
            file.write(line[40:])

    on_parsing(monkeypatch, b'"id-0"', complete)
    assert await ids(tmp_path) == ["id-0", "id-1"]


async def test_torn_line_replaced_between_reads_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer truncates it and writes another one after the reader read its beginning."""
    segment, first = tmp_path / "events-000001.jsonl", to_line(event(0))
    segment.write_bytes(first + b'{"torn')
    on_parsing(monkeypatch, b'"id-0"', lambda: segment.write_bytes(first + to_line(event(2))))
    assert await ids(tmp_path) == ["id-0", "id-2"]


async def test_line_mixed_from_two_writes_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, first = tmp_path / "events-000001.jsonl", to_line(event(0))
    segment.write_bytes(first + b'{"torn and the end of another"}\n')
    on_parsing(monkeypatch, b"torn", lambda: segment.write_bytes(first + to_line(event(2))))
    assert await ids(tmp_path) == ["id-0", "id-2"]


async def test_line_longer_than_a_block_is_read_completely(tmp_path: Path) -> None:
    long = replace(event(0), payload=b"x" * 3_000_000)
    async with open_event_log(tmp_path, fsync=False) as log:
        await log.publish([long, event(1)])
    assert await ids(tmp_path) == ["id-0", "id-1"]
