"""The data directory of a standalone: its lock, its version and its announced addresses."""

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
"""Version of the layout (`DataDir`). A directory with another version is refused."""


class DataDirInUse(ConfigurationError):
    """Another server holds the lock of the directory."""


@contextmanager
def open_data_dir(root: Path) -> Iterator[DataDir]:
    """Create the directory if it is missing and hold its lock while the block runs.

    The kernel releases the lock when the process ends, even by kill -9, so a lock is never stale.

    Raise `ConfigurationError` when the directory cannot be used, `DataDirInUse` when another server
    uses it.
    """
    data_dir = create_data_dir(root)
    with as_data_dir_error(root):
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataDirInUse(
                f"SLUICE_DATA_DIR: another server is using {root}; stop it, or choose another"
                " directory with --data-dir"
            ) from None
        with as_data_dir_error(root):
            check_layout(data_dir)
            version = root / "version"
            if not version.exists():
                write_atomically(version, f"{LAYOUT_VERSION}\n")
            # A killed server leaves its announcement behind; its addresses are dead.
            data_dir.announcement.unlink(missing_ok=True)
        yield data_dir
    finally:
        os.close(lock)


@contextmanager
def announce_addresses(data_dir: DataDir, addresses: Mapping[str, str]) -> Iterator[None]:
    """Publish the server's addresses in server.json while the block runs."""
    facts = {**addresses, "pid": os.getpid()}
    write_atomically(data_dir.announcement, json.dumps(facts, indent=2) + "\n")
    try:
        yield
    finally:
        data_dir.announcement.unlink(missing_ok=True)


def check_layout(data_dir: DataDir) -> None:
    """Raise `ConfigurationError` if another release laid the directory out. A new one has none."""
    path = data_dir.root / "version"
    if not path.exists():
        return
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if text != str(LAYOUT_VERSION):
        raise ConfigurationError(
            f"SLUICE_DATA_DIR: {path.parent} was written by another release (layout {text[:20]});"
            " run that release, or choose another directory with --data-dir"
        )


def write_atomically(path: Path, text: str) -> None:
    """Replace the file atomically: a reader sees the old text or the new one."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def write_secret(path: Path, text: str) -> None:
    """Replace a file that only the owner may read, atomically and durably.

    It never has another mode, not even while it is written.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)  # of a killed server, perhaps with another mode
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
