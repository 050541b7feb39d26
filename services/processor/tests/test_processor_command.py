"""What the command refuses to start with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

REDIS = {
    "SLUICE_COORDINATION": "redis",
    "SLUICE_CHUNK_TRANSPORT": "redis",
    "SLUICE_OBJECTS": "s3",
    "SLUICE_DATA_DIR": "/nonexistent",
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
    ],
)
def test_a_mixture_without_work_and_bad_settings_end_the_start_in_one_line(
    settings: dict[str, str], word: str
) -> None:
    done = started(**settings)
    assert (done.returncode, done.stdout) == (78, "")
    assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_settings_are_shown() -> None:
    done = started("--show-settings", SLUICE_PROCESSOR__THUMBNAIL_SIZES="128")
    assert done.returncode == 0
    assert "SLUICE_PROCESSOR__THUMBNAIL_SIZES=128" in done.stdout.splitlines()
