"""Root file systems of a distribution, created by mmdebstrap."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.programs import cache_dir, find_program, run_step

MAKE_SECONDS: Final = 1_800.0
ASK_SECONDS: Final = 30.0
INHERITED: Final = re.compile(r"Acquire::(Check-|[Hh]ttps?::Proxy|[Rr]etries)")
"""apt settings of this machine that the new system needs: proxies, and whether to accept the dates
of an outdated mirror.
"""
LEFT_OUT: Final = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")


@contextmanager
def root_file_system(suite: str, packages: Sequence[str]) -> Iterator[Path]:
    """Yield a temporary folder with a minimal Debian system and these packages.

    Raise `ServiceError`, also when mmdebstrap is missing.
    """
    program = find_program("mmdebstrap")
    if program is None:
        raise ServiceError(
            "there is no mmdebstrap on this machine (`python -m tools.images setup` installs it)"
        )
    cache_dir().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="root-", dir=cache_dir()) as folder:
        root = Path(folder) / "root"
        command = [
            program,
            "--variant=minbase",
            f"--include={','.join(packages)}",
            *(f"--aptopt={line}" for line in _inherited_settings()),
            "--dpkgopt=force-unsafe-io",  # an incomplete system is discarded
            *(f"--dpkgopt=path-exclude={one}" for one in LEFT_OUT),
            # Java's alternatives need the folder of their manual.
            '--essential-hook=mkdir -p "$1/usr/share/man/man1"',
            suite,
            str(root),
        ]
        run_step(command, MAKE_SECONDS)
        yield root


def _inherited_settings() -> list[str]:
    asked = find_program("apt-config")
    if asked is None:
        return []
    lines = run_step([asked, "dump"], ASK_SECONDS).splitlines()
    return [line.rstrip(";") for line in lines if INHERITED.match(line)]
