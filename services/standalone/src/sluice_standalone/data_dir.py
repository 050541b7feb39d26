"""The data directory of a standalone: its lock, and where it says that it listens."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sluice_common.process.data_dir import DataDir, as_data_dir_error, create_data_dir
from sluice_core.configuration import ConfigurationError

LAYOUT_VERSION: Final = 1
"""Version of the layout (`DataDir`); a directory of a newer one is left alone."""


@contextmanager
def opened(root: Path) -> Iterator[DataDir]:
    """Make the directory if need be and hold its lock inside the block.

    The kernel drops the lock when the process ends, however it ends, so a lock is never stale.

    Raises `ConfigurationError` when the directory cannot be used, or another server uses it.
    """
    data_dir = create_data_dir(root)
    with as_data_dir_error(root):
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(
                f"SLUICE_DATA_DIR: another server is using {root}; stop it, or choose another"
                " directory with --data-dir"
            ) from None
        with as_data_dir_error(root):
            _check_version(root / "version")
            # Left over from a server that was killed; nobody listens there any more.
            data_dir.announcement.unlink(missing_ok=True)
        yield data_dir
    finally:
        os.close(lock)


@contextmanager
def announced(data_dir: DataDir, addresses: Mapping[str, str]) -> Iterator[None]:
    """Say in server.json where the server listens, as long as it does."""
    facts = {**addresses, "pid": os.getpid()}
    _write_whole(data_dir.announcement, json.dumps(facts, indent=2) + "\n")
    try:
        yield
    finally:
        data_dir.announcement.unlink(missing_ok=True)


def _check_version(path: Path) -> None:
    if not path.exists():
        _write_whole(path, f"{LAYOUT_VERSION}\n")
        return
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if text != str(LAYOUT_VERSION):
        raise ConfigurationError(
            f"SLUICE_DATA_DIR: {path.parent} was written by another release (layout {text[:20]});"
            " run that release, or choose another directory with --data-dir"
        )


def _write_whole(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of it."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
