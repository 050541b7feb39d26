"""Servers published only as source: built once with Go, into this user's cache."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.programs import cache_dir, find_program, run_step
from tools.backends.progress import say

FETCH_SECONDS: Final = 900.0
BUILD_SECONDS: Final = 7200.0


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A program to build.

    The version is pinned, and so is the checksum of its source in Go's module proxy. It is built as
    a main module, from the folder of that source: its go.sum, which the checksum covers, then pins
    all of its dependencies.

    Args:
        checksum: of the module's files, "h1:…"; `go mod download -json MODULE@VERSION` prints it.
        package: the folder of the program within the module.
        minutes: of one core that a build took, shown to the user.
    """

    name: str
    module: str
    version: str
    checksum: str
    package: str
    minutes: int

    @property
    def path(self) -> Path:
        """The path of the built program. Each version has a separate folder."""
        return cache_dir() / "built" / f"{self.name}-{self.version}" / self.name


def build(service: str, program: GoProgram) -> Path:
    """Return its path; build it first if necessary. Raise `ServiceError`."""
    go = find_program("go")
    if go is None and not program.path.exists():
        raise ServiceError(
            f"there is neither `{program.name}` nor `go` on the PATH: install Go, which builds it "
            f"once in about {program.minutes} minutes"
        )
    folder = program.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # A concurrent caller waits here and finds it built.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if go is not None and not program.path.exists():
            say(
                service,
                f"building {program.name} {program.version} with Go (once, about "
                f"{program.minutes} minutes of one core)",
            )
            _build(go, program)
    return program.path


def _build(go: str, program: GoProgram) -> None:
    environment = {**os.environ, "GOWORK": "off", "GOFLAGS": "-buildvcs=false"}
    module_version = f"{program.module}@{program.version}"
    with tempfile.TemporaryDirectory(dir=program.path.parent) as scratch:
        command = [go, "mod", "download", "-json", module_version]
        fetched = run_step(command, FETCH_SECONDS, directory=Path(scratch), environment=environment)
        # Go prints its progress before the answer.
        source = json.loads(fetched[fetched.index("{") :])
        if source["Sum"] != program.checksum:
            raise ServiceError(
                f"the source of {module_version} has the checksum {source['Sum']} and not "
                f"{program.checksum}: do not use it, and find out who changed it"
            )
        binary = Path(scratch) / program.name
        run_step(
            [go, "build", "-o", str(binary), program.package],
            BUILD_SECONDS,
            directory=Path(source["Dir"]),
            environment=environment,
        )
        # Rename, so that the program is complete or absent.
        binary.rename(program.path)
