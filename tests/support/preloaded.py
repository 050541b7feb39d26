"""Libraries in C that a test puts before a process's own (LD_PRELOAD)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.missing import missing

_FLAGS = ("-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-pthread")


def compiled(source: Path, folder: Path) -> Path:
    """The library made of `source`, in `folder`."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        missing(f"a C compiler is missing: {source.name} has to be compiled")
    library = folder / f"{source.stem}.so"
    command = [compiler, *_FLAGS, "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library
