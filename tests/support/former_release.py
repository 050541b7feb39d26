"""The code of a former commit of this repository, for processes that run beside today's."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.missing import missing

ROOT: Final = Path(__file__).resolve().parents[2]
BEFORE_PHOTOS: Final = "c89eef2e95b1b4d236d9c0706964f51d8f532ebf"
"""The last one without migration 0009, and without a gateway."""
WITH_GATEWAY: Final = "aec363c208143b214e704be41eb32e7b19ee03b9"
"""One with a gateway, and today's schema."""
_GIT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Release:
    """Code that a service is started from. `settings` are added to those of its process."""

    name: str
    settings: dict[str, str]


CURRENT: Final = Release("current", {})


def former_release(commit: str, folder: Path) -> Release:
    """Return the release of a commit, unpacked below `folder`.

    It runs with the packages that are installed for the current one. Skips the test, or fails it in
    CI, in a clone whose history ends before the commit.
    """
    done = subprocess.run(
        ["git", "archive", "--format=tar", commit, "libs", "services"],
        cwd=ROOT,
        capture_output=True,
        timeout=_GIT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        missing(f"the history of this clone lacks {commit}: fetch it with `git fetch --unshallow`")
    target = folder / commit[:8]
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(target, filter="data")
    # Before the folders of the installed workspace, which site-packages adds to the path.
    sources = sorted(str(path) for path in target.glob("*/*/src"))
    return Release(commit[:8], {"PYTHONPATH": os.pathsep.join(sources)})
