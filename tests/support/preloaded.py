"""C libraries that tests preload into processes (LD_PRELOAD)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from support.missing import missing

_FLAGS = ("-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-pthread")


def compiled(source: Path, folder: Path) -> Path:
    """Compile `source` to a library in `folder` and return its path."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        missing(f"a C compiler is missing for {source.name}; install gcc")
    library = folder / f"{source.stem}.so"
    command = [compiler, *_FLAGS, "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library
