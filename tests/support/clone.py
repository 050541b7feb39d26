"""A copy of the workspace like a fresh clone, and `make` in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAKE_SECONDS = 240
# Variables of the test run that a fresh clone does not have.
_DROPPED = ("MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTHONPATH", "PYTEST", "SLUICE_", "COV")


@dataclass(frozen=True)
class Clone:
    """A copy of the tracked and addable files, without ignored ones."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / ".venv" / "bin" / "python"

    def environment(self, settings: Mapping[str, str] | None = None) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}
        return {**inherited, **(settings or {})}

    def make(self, *arguments: str, settings: Mapping[str, str] | None = None) -> None:
        """Run `make`; fail the test with its output if a target fails."""
        done = subprocess.run(
            ["make", *arguments],
            cwd=self.root,
            env=self.environment(settings),
            capture_output=True,
            text=True,
            timeout=MAKE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"make {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"


def clone_workspace(folder: Path) -> Clone:
    """Copy the current workspace into `folder`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    for name in filter(None, listing.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return Clone(folder)
