"""The `sluice` command as a process, with arguments and an exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.environment import process_environment


@dataclass(frozen=True, slots=True)
class Outcome:
    """Exit code and output of a run."""

    code: int
    out: str
    err: str

    def json_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]


class Sluice:
    """Runs `sluice` against one server, with its own journal."""

    def __init__(self, address: str, state_dir: Path, *, python: str = sys.executable) -> None:
        self._python = python
        self.environment: Mapping[str, str] = process_environment(
            {
                "SLUICE_SERVER": address,
                "SLUICE_STATE_DIR": str(state_dir),
                "SLUICE_CONFIG_DIR": str(state_dir / "config"),
            }
        )

    def command(self, *arguments: str) -> Sequence[str]:
        return [self._python, "-m", "sluice_client.cli", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command without waiting for it."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout: float = 240, typed: str = "") -> Outcome:
        """Run with `typed` as standard input."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            input=typed,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, timeout: float = 240) -> Outcome:
        """Run; fail the test with the command's error output unless it exits 0."""
        outcome = self.run(*arguments, timeout=timeout)
        assert outcome.code == 0, f"sluice {' '.join(arguments)}: {outcome.code}\n{outcome.err}"
        return outcome
