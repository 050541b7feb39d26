"""Tests of the `sluice-repository` command line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PHASE_1 = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
}
PHASE_2 = {
    **PHASE_1,
    "SLUICE_CHUNK_TRANSPORT": "direct",
    "SLUICE_REPOSITORY_ADDRESS": "127.0.0.1:0",
    "SLUICE_METRICS_ADDRESS": "127.0.0.1:0",
}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
    return subprocess.run(
        [sys.executable, "-m", "sluice_repository", *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("settings", "advice"),
    [({}, "sluice serve"), (PHASE_1, "sluice-intake"), ({"SLUICE_EVENTS": "kafka"}, "nearest")],
    ids=["standalone", "phase 1", "no such combination"],
)
def test_combination_without_repository_is_refused_with_advice(
    settings: dict[str, str], advice: str
) -> None:
    ended = run("--roles", "parts,completer", **settings)
    assert ended.returncode == 78
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert advice in ended.stderr


def test_unusable_keys_of_tokens_exit_78() -> None:
    keys = {"MODE": "jwt", "AUDIENCE": "sluice", "SECRET_FILE": "/dev/null"}
    auth = {f"SLUICE_AUTH__{name}": value for name, value in keys.items()}
    ended = run(**PHASE_2, **auth)
    assert ended.returncode == 78
    assert ended.stderr.startswith("SLUICE_AUTH__SECRET_FILE: ")
    assert len(ended.stderr.splitlines()) == 1


def test_unknown_role_is_a_usage_error_naming_known_roles() -> None:
    ended = run("--roles", "parts,everything")
    assert ended.returncode == 2
    assert "sweeper" in ended.stderr


def test_effective_settings_are_shown() -> None:
    ended = run("--show-settings", SLUICE_WORKERS__PARTS="3")
    assert ended.returncode == 0
    assert "SLUICE_WORKERS__PARTS=3" in ended.stdout.splitlines()
