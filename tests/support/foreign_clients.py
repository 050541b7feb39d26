"""Clients in other languages, built once per machine from their locked versions."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.missing import missing

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "integration" / "clients"
BUILT = ROOT / "var" / "clients"
_BUILD_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Command:
    """The command line and environment of a client."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def go_client(name: str) -> Command:
    """Build and return a program of tests/integration/clients/go, with grpc-go."""
    source = SOURCES / "go"
    required = re.search(r"^go (\d+)\.(\d+)", (source / "go.mod").read_text(), re.MULTILINE)
    assert required is not None
    if shutil.which("go") is None or _go_version() < (int(required[1]), int(required[2])):
        missing(f"the Go clients need Go {required[1]}.{required[2]} or newer; install it")
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local"}
    binary = BUILT / f"go-{_digest(source)}" / name
    with _one_at_a_time("go"):
        if not binary.exists():
            binary.parent.mkdir(parents=True, exist_ok=True)
            _run(["go", "build", "-o", str(binary), "."], source, environment)
    return Command((str(binary),), dict(os.environ))


def node_client(name: str) -> Command:
    """Return a script of tests/integration/clients/node, with grpc-js installed."""
    source = SOURCES / "node"
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing("the JavaScript clients need Node and npm; install them")
    built = BUILT / f"node-{_digest(source)}"
    with _one_at_a_time("node"):
        if not (built / "node_modules" / ".package-lock.json").exists():
            built.mkdir(parents=True, exist_ok=True)
            for file in ("package.json", "package-lock.json"):
                shutil.copy(source / file, built)
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
            _run(["npm", "ci", *options], built, os.environ)
    environment = {**os.environ, "NODE_PATH": str(built / "node_modules")}
    return Command(("node", str(source / f"{name}.js")), environment)


def _go_version() -> tuple[int, int]:
    done = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True)
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _digest(source: Path) -> str:
    """Return a digest of a client's files; each version is built in its own folder."""
    digest = hashlib.sha256()
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _one_at_a_time(language: str) -> Iterator[None]:
    """Serialize builds, so that the workers of a test run build a client once."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / f"{language}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str], where: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
