"""Programs that a service needs: found on this machine, or installed where allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.progress import say

APT_SECONDS: Final = 600
# Folders of daemons in distributions; often not on a user's PATH.
SYSTEM_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin", "/sbin")
_one_at_a_time = threading.Lock()


def cache_dir() -> Path:
    """Return the folder of fetched and built programs: SLUICE_SERVICES_CACHE, else by the XDG base
    directory rules.
    """
    named = os.environ.get("SLUICE_SERVICES_CACHE", "")
    if named:
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path("~/.cache").expanduser()
    return root / "sluice"


def find_program(*names: str) -> str | None:
    """Return the path of the first of these programs on this machine."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])
    return next((found for name in names if (found := shutil.which(name, path=path))), None)


def need_program(service: str, names: Sequence[str], package: str) -> str:
    """Return the same, installing the package when it is missing and installation is allowed."""
    found = find_program(*names)
    if found is None:
        install_package(service, package)
        found = find_program(*names)
    if found is None:
        raise ServiceError(f"there is no {names[0]} on this machine: install {package}")
    return found


def install_package(service: str, package: str) -> None:
    """Run `apt-get install`. No-op without apt-get or without root."""
    with _one_at_a_time:
        if not may_install():
            return
        say(service, f"installing {package} with apt-get (once)")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", package]):
            command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *arguments]
            run_step(command, APT_SECONDS, environment=environment)


def may_install() -> bool:
    return os.geteuid() == 0 and find_program("apt-get") is not None


def run_step(
    command: Sequence[str],
    seconds: float,
    *,
    directory: Path | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    """Run one step of a set-up. Return its output. Raise `ServiceError` with the end of it."""
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"{name} did not finish within {seconds:.0f} s") from error
    if done.returncode != 0:
        last = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-15:])
        raise ServiceError(f"{name} failed with exit code {done.returncode}:\n{last}")
    return done.stdout
