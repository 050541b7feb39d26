"""The command line of the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sluice_core.concurrency.attempts import FinalFailure
from sluice_core.events.nodes import upload_completed
from sluice_processor.sources.log_dead_letters import LogDeadLetters
from support.commits import finished_upload
from support.sqs_server import shared_server

HOSTILE = "\x9b31m\x7f\x1b]0;title\x07"
"""Escape sequences, of which JSON itself escapes only the last."""
REDIS = {
    "SLUICE_COORDINATION": "redis",
    "SLUICE_CHUNK_TRANSPORT": "redis",
    "SLUICE_OBJECTS": "s3",
    "SLUICE_DATA_DIR": "/nonexistent",
}


ON_SQS = {
    **REDIS,
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "sqlite",
    "SLUICE_SQS__QUEUE_URL": "http://127.0.0.1:1/1/photos",
}


def started(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("SLUICE_")}
    return subprocess.run(
        [sys.executable, "-m", "sluice_processor", *arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, "sluice serve"),
        ({**REDIS, "SLUICE_EVENTS": "off", "SLUICE_CATALOGUE": "sqlite"}, "SLUICE_EVENTS"),
        ({**REDIS, "SLUICE_EVENTS": "kafka", "SLUICE_CATALOGUE": "off"}, "SLUICE_CATALOGUE"),
        (
            {
                **REDIS,
                "SLUICE_EVENTS": "kafka",
                "SLUICE_CATALOGUE": "sqlite",
                "SLUICE_METRICS_ADDRESS": "0.0.0.0:9466",
            },
            "SLUICE_METRICS_ADDRESS",
        ),
        ({"SLUICE_PROCESSOR__THUMBNAIL_SIZES": "256;1024"}, "SLUICE_PROCESSOR__THUMBNAIL_SIZES"),
        ({"SLUICE_PROCESSOR__THUMBNAIL_FORMAT": "png"}, "SLUICE_PROCESSOR__THUMBNAIL_FORMAT"),
        ({**ON_SQS, "SLUICE_SQS__QUEUE_URL": "photos"}, "SLUICE_SQS__QUEUE_URL"),
        ({**ON_SQS, "SLUICE_PROCESSOR__S3_TOPIC": "s3"}, "SLUICE_PROCESSOR__S3_TOPIC"),
    ],
)
def test_unusable_settings_fail_start_with_one_line(settings: dict[str, str], word: str) -> None:
    done = started(**settings)
    assert (done.returncode, done.stdout) == (78, "")
    assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unusable_queue_fails_start_with_one_line() -> None:
    server = shared_server()
    keys = {"SLUICE_SQS__ACCESS_KEY": "lonely", "SLUICE_SQS__SECRET_KEY": "hunter2"}
    url = f"{server.endpoint_url}/123456789012/unknown"
    done = started(**{**ON_SQS, **keys, "SLUICE_SQS__QUEUE_URL": url})
    assert (done.returncode, done.stdout) == (78, "")
    (line,) = done.stderr.splitlines()
    assert "SLUICE_SQS__QUEUE_URL: The queue does not exist" in line
    assert "hunter2" not in line


def test_the_settings_are_shown() -> None:
    done = started("--show-settings", SLUICE_PROCESSOR__THUMBNAIL_SIZES="128")
    assert done.returncode == 0
    assert "SLUICE_PROCESSOR__THUMBNAIL_SIZES=128" in done.stdout.splitlines()


@pytest.mark.slow
def test_dead_letters_of_event_log_are_managed_by_dlq(tmp_path: Path) -> None:
    letters = LogDeadLetters(tmp_path / "processor")
    for number in range(3):
        commit = finished_upload("a.jpg", node_id=f"n-{number}")
        record = upload_completed(commit, superseded_node_id="", occurred_at=1.0)
        letters.write(
            record, FinalFailure("CRASHED", f"The child died: {HOSTILE}", 1), now=100.0 + number
        )

    def dlq(*arguments: str) -> list[str]:
        done = started("dlq", *arguments, SLUICE_DATA_DIR=str(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.replace("\n", "").isprintable(), "no escape reaches a terminal"
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert all(letter["detail"].endswith(HOSTILE) for letter in found)
        return [letter["subject"] for letter in found]

    assert dlq("list") == ["n-0", "n-1", "n-2"]
    assert dlq("replay", "--count", "1") == ["n-0"]
    assert [record.key for record in letters.to_replay()] == ["n-0"]
    assert dlq("drop", "--count", "1") == ["n-1"]
    assert dlq("list") == ["n-2"]
    assert started("dlq", "list", SLUICE_EVENTS="off").returncode == 78
    assert started("dlq").returncode == 2
