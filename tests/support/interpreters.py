"""The interpreters of this machine, by version."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def find_interpreter(version: str) -> Path | None:
    """Return an interpreter of `version` ("3.12") that starts, from PATH or pyenv; or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [*pyenv.glob(f"{version}.*/bin/python")]
    if found := shutil.which(f"python{version}"):
        candidates.insert(0, Path(found))
    return next((path for path in candidates if _version_of(path) == version), None)


def _version_of(python: Path) -> str | None:
    # A shim of pyenv is on PATH also for versions that it does not start.
    done = subprocess.run(
        [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None
