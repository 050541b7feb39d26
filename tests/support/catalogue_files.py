"""Empty catalogues in SQLite files."""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
from functools import cache
from pathlib import Path

from sluice_backends.sql.migrate import migrate


async def empty_catalogue(folder: Path) -> str:
    """Return the URL of an empty, migrated catalogue in `folder`.

    It is a copy: the migrations take ten times as long as opening their result. Tests of the
    migrations themselves call `migrate`.
    """
    template = _template()
    if not template.exists():
        # Migrated beside it, so that no test that is cancelled leaves half of a template.
        unfinished = template.with_suffix(f".{secrets.token_hex(4)}")
        await migrate(f"sqlite:///{unfinished}")
        unfinished.rename(template)
    return f"sqlite:///{shutil.copy(template, catalogue_file(folder))}"


def catalogue_file(folder: Path) -> Path:
    """Return the file of the catalogue that `empty_catalogue` makes in this folder."""
    return folder / "catalogue.sqlite"


@cache
def _template() -> Path:
    """Return the file that the first test of this process migrates."""
    folder = tempfile.mkdtemp(prefix="sluice-catalogue-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder) / "catalogue.sqlite"
