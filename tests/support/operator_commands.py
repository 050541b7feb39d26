"""The commands of the runbooks, run as they are written, with processes in place of pods."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from support.clone import ROOT
from support.environment import process_environment

RUNBOOKS: Final = ROOT / "docs" / "runbooks"
COMMAND_SECONDS: Final = 120.0
_CONSOLE: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE: Final = re.compile(r"`([^`\n]+)`")
_KUBECTL: Final = """\
#!/bin/bash
# Pods are processes here. Their logs are in a folder for each workload; what is asked of the
# cluster is noted, for the test to do.
set -eu
home=$(dirname "$(dirname "$0")")
[ "$1 $2" = "--namespace sluice" ] || exit 64
case $3 in
logs)
  [ "$4" = --selector ] || exit 64
  cat "$home/logs/${5#app.kubernetes.io/name=}"/*
  ;;
scale|patch) echo "${*:3}" >>"$home/asked" ;;
*) exit 64 ;;
esac
"""


def commands_of(page: str) -> Iterator[str]:
    """Yield the commands of a page, those inside its sentences included."""
    text = (RUNBOOKS / f"{page}.md").read_text(encoding="utf-8")
    for block in _CONSOLE.findall(text):
        yield from (line.partition("$ ")[2] for line in block.splitlines() if "$ " in line)
    yield from (found for found in _INLINE.findall(_CONSOLE.sub("", text)) if " " in found)


class Operator:
    """Somebody who follows the runbooks.

    Args:
        folder: for programs, logs and the home directory.
        settings: environment of the commands.
        instead: words of the pages by what they are here.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, str], instead: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        self._instead = dict(instead or {})
        programs = folder / "bin"
        programs.mkdir(parents=True)
        self.add_program("kubectl", _KUBECTL)
        path = f"{programs}:{Path(sys.executable).parent}:"
        inherited = process_environment(settings)
        self._environment = {
            **inherited,
            "PATH": path + inherited["PATH"],
            "HOME": str(folder),
            "SLUICE_STATE_DIR": str(folder / "state"),
            "SLUICE_CONFIG_DIR": str(folder / "config"),
        }

    def add_program(self, name: str, text: str) -> None:
        program = self._folder / "bin" / name
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)

    def add_log(self, workload: str, log: Path) -> None:
        """Let `kubectl logs` find the log of a process."""
        logs = self._folder / "logs" / workload
        logs.mkdir(parents=True, exist_ok=True)
        (logs / log.name).symlink_to(log)

    async def follow(self, page: str, part: str, **names: str) -> str:
        """Run the command of a page that contains `part`; return its output, which is not empty.

        Args:
            names: what stands for the placeholders of the page, such as UPLOAD.
        """
        (command,) = {each for each in commands_of(page) if part in each}
        for word, real in {**names, **self._instead}.items():
            pattern = rf"(?<![\w-]){re.escape(word)}(?![\w-])"
            command = re.sub(pattern, real.replace("\\", r"\\"), command)
        done = await asyncio.to_thread(
            subprocess.run,
            [shutil.which("bash") or "bash", "-o", "pipefail", "-c", command],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def asked(self) -> str:
        """Return what was asked of the cluster last."""
        return (self._folder / "asked").read_text(encoding="utf-8").splitlines()[-1]
