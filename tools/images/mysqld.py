"""`mysqld` extracted from an image, for the suites that start servers."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.programs import cache_dir, run_step
from tools.images.engine import Engine

EXPORT_SECONDS: Final = 600.0
LIBRARIES: Final = ("lib64", "usr/lib64", "usr/lib", "usr/lib/*-linux-gnu", "lib/*-linux-gnu")
PRIVATE: Final = ("usr/lib64/mysql/private", "usr/lib/mysql/private")


@contextmanager
def unpacked_mysqld(engine: Engine, image: str) -> Iterator[Path]:
    """Yield a folder for the PATH with a `mysqld` that uses the libraries of its image.

    Raise `ServiceError` for an image without one.
    """
    cache_dir().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="mysqld-", dir=cache_dir()) as folder:
        root = Path(folder) / "root"
        root.mkdir()
        _export(engine, image, root)
        programs = Path(folder) / "bin"
        programs.mkdir()
        program = programs / "mysqld"
        program.write_text(_script(root), encoding="utf-8")
        program.chmod(0o755)
        yield programs


def _export(engine: Engine, image: str, root: Path) -> None:
    container = engine.run("create", image).split()[-1]
    archive = root.parent / "root.tar"
    try:
        engine.run("export", "--output", str(archive), container, seconds=EXPORT_SECONDS)
    finally:
        engine.run("rm", "--force", "--volumes", container)
    # Devices and owners need root; a server that is only started needs neither.
    command = ["tar", "-C", str(root), "--no-same-owner", "--exclude=dev/*", "-xf", str(archive)]
    run_step(command, EXPORT_SECONDS)
    archive.unlink()


def _script(root: Path) -> str:
    server = root / "usr/sbin/mysqld"
    loader = _first(root, "lib64/ld-linux*.so.*", "lib/ld-linux*.so.*", "usr/lib*/ld-linux*.so.*")
    if loader is None or not server.exists():
        raise ServiceError("the image has no mysqld, or no loader of programs")
    places = [place for pattern in (*LIBRARIES, *PRIVATE) for place in root.glob(pattern)]
    plugins = _first(root, "usr/lib64/mysql/plugin", "usr/lib/mysql/plugin")
    messages = _first(root, "usr/share/mysql*/english/errmsg.sys")
    options = [
        f"--basedir={root / 'usr'}",
        *([f"--plugin-dir={plugins}"] if plugins else []),
        *([f"--lc-messages-dir={messages.parent.parent}"] if messages else []),
    ]
    path = os.pathsep.join(str(place) for place in places)
    command = shlex.join([str(loader), "--library-path", path, str(server)])
    return f'#!/bin/sh\nexec {command} "$@" {shlex.join(options)}\n'


def _first(root: Path, *patterns: str) -> Path | None:
    return next((found for pattern in patterns for found in sorted(root.glob(pattern))), None)
