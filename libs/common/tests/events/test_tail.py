"""`sluice events tail` on the embedded event log."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from sluice_backends.kafka.receiving import Start
from sluice_backends.log.event_log import open_event_log
from sluice_common.events import command
from sluice_common.events.command import events
from sluice_common.events.tail import TailRequest, tail_log
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC, EventRecord
from support.kafka import failed

BOTH = (UPLOADS_TOPIC, NODES_TOPIC)
FIRST, SECOND = failed(UPLOADS_TOPIC, "node-1", 1), failed(NODES_TOPIC, "node-1", 2)


async def write(data_dir: Path, *records: EventRecord) -> None:
    async with open_event_log(data_dir / "events", fsync=False) as log:
        await log.publish(records)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    asyncio.run(write(tmp_path, FIRST, SECOND))
    return tmp_path


@pytest.fixture(autouse=True)
def _logging_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore logging: the command configures it for its process, here that of the tests."""
    monkeypatch.setattr(command, "configure_logging", lambda level: None)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_events_are_printed_with_their_data(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tail", "--data-dir", str(data_dir), "--from", "beginning", "--no-follow"]
    assert events(arguments) == 0
    first, second = lines(capsys)
    assert (first["id"], second["id"]) == (FIRST.event_id, SECOND.event_id)
    assert first["data"] == {
        "header": {"event_id": FIRST.event_id, "tenant": "default", "sequence": "1"},
        "upload_id": "upload-of-node-1",
        "node_id": "node-1",
        "drive": "photos",
        "path": "node-1.bin",
        "reason": "TEST",
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--topic", NODES_TOPIC, "--no-follow"], [SECOND.event_id]),
        (["--count", "1"], [FIRST.event_id]),
        (["--topic", "another", "--no-follow"], []),
    ],
)
def test_topics_and_a_count_choose(
    arguments: list[str],
    expected: list[str],
    data_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert events(["tail", "--data-dir", str(data_dir), "--from", "beginning", *arguments]) == 0
    assert [event["id"] for event in lines(capsys)] == expected


async def test_it_follows_a_log_from_its_end(tmp_path: Path) -> None:
    await write(tmp_path, FIRST)
    shown: list[str] = []
    async with asyncio.TaskGroup() as group:
        request = TailRequest(BOTH, Start.LATEST, count=1)
        group.create_task(tail_log(tmp_path / "events", request, shown.append))
        await asyncio.sleep(0.5)
        assert shown == []
        while not shown:  # publish again, in case the tail found the end only after the last event
            await write(tmp_path, SECOND)
            await asyncio.sleep(0.5)
    assert [json.loads(line)["id"] for line in shown] == [SECOND.event_id]


def test_event_of_another_release_is_printed_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = EventRecord("id", "sluice.events.v9.New", UPLOADS_TOPIC, "key", "t", 1.0, b"\x01", {})
    asyncio.run(write(tmp_path, other))
    assert events(["tail", "--data-dir", str(tmp_path), "--from", "beginning", "--no-follow"]) == 0
    (shown,) = lines(capsys)
    assert (shown["error"], shown["data_base64"]) == ("UNKNOWN_TYPE", "AQ==")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no event log"),
        (["--group", "g"], "--group"),
        (["--bootstrap-servers", "nonsense"], "host:port"),
    ],
)
def test_unusable_request_exits_78_with_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert events(["tail", "--data-dir", str(tmp_path), *arguments]) == 78
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_wrong_usage_is_exit_2() -> None:
    with pytest.raises(SystemExit) as caught:
        events(["tail", "--count", "0"])
    assert caught.value.code == 2


def test_the_client_finds_the_command() -> None:
    (found,) = entry_points(group="sluice.commands", name="events")
    assert found.load() is events
