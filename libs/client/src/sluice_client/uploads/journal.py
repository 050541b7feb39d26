"""Resume journal: one small file per upload with what another run needs to resume it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import platformdirs

from sluice_client.errors import UploadBusy
from sluice_client.local_files import naming
from sluice_client.model import FileIdentity

FORMAT_VERSION = 2
_KEEP_SECONDS = 8 * 24 * 3600.0
"""No upload lives longer than seven days (rule 24)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One upload in progress; `upload_id` is empty until the server has assigned it."""

    request_id: str
    identity: FileIdentity
    chunk_size: int
    arguments: str
    """Digest of the other arguments of InitiateUpload; different arguments are another upload."""
    upload_id: str = ""

    @classmethod
    def new(cls, identity: FileIdentity, chunk_size: int, arguments: str) -> Entry:
        return cls(uuid.uuid4().hex, identity, chunk_size, arguments)

    def named(self, upload_id: str) -> Entry:
        return replace(self, upload_id=upload_id)

    def dump(self) -> bytes:
        return json.dumps({"version": FORMAT_VERSION, **asdict(self)}).encode()

    @classmethod
    def load(cls, data: bytes) -> Entry | None:
        """Return the entry, or None if it is torn, foreign or of another version: the upload
        restarts.
        """
        try:
            fields: dict[str, Any] = json.loads(data)
            if fields.pop("version") != FORMAT_VERSION:
                return None
            identity = FileIdentity(**fields.pop("identity"))
            return cls(identity=identity, **fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


class Journal:
    """The journal of one upload, locked while it is open. All methods block briefly.

    The request id is on disk before InitiateUpload is called, so a process that dies in between
    finds the same upload again by repeating the call (docs/protocol.md, `request_id`). The file is
    replaced by rename, so that a reader sees one whole version. The received chunks are queried
    from the server, never kept here.

    Raise UploadBusy on entering when another run (of this or another process) holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_suffix(".lock")
        self._lock = -1

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = self._take_lock()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Unlinked while it is still locked: a process that opened the old file checks again
        # (_take_lock).
        try:
            self._lock_path.unlink(missing_ok=True)
        except OSError:
            # A leftover lock file is harmless: only the lock on it counts.
            pass
        finally:
            os.close(self._lock)

    def load(self) -> Entry | None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        return Entry.load(data)

    def save(self, entry: Entry) -> None:
        """Replace the entry atomically."""
        temporary = self.path.with_suffix(".new")
        try:
            with naming(temporary):
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with open(descriptor, "wb") as file:
                    file.write(entry.dump())
            temporary.replace(self.path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Remove the entry: the upload has ended."""
        self.path.unlink(missing_ok=True)

    def _take_lock(self) -> int:
        while True:
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(descriptor, self._lock_path):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise UploadBusy(
                    "UPLOAD_BUSY",
                    "another run is uploading this file to the same place; wait for it or stop it",
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


def home_dir() -> Path | None:
    """Return the user's home directory, or None if the user has none or it does not exist."""
    home = os.path.expanduser("~")
    return Path(home) if os.path.isabs(home) and os.path.isdir(home) else None


def state_dir(configured: Path | None) -> Path:
    """Return the journals' directory: the option, SLUICE_STATE_DIR, or the user's state directory.

    Raise FileNotFoundError when none is set and the user has no home: never create a home.
    """
    if configured is not None:
        return configured
    named = os.environ.get("SLUICE_STATE_DIR")
    if named:
        return Path(named)
    if not os.path.isabs(os.environ.get("XDG_STATE_HOME", "")) and home_dir() is None:
        raise FileNotFoundError(errno.ENOENT, "there is no home directory", os.path.expanduser("~"))
    return platformdirs.user_state_path("sluice")


def open_journal(directory: Path, server: str, drive: str, path: str, source: Path) -> Journal:
    """Return the journal of one file's upload to one place on one server."""
    key = "\0".join((server, drive, path, os.path.abspath(source)))
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return Journal(directory / "uploads" / f"{digest[:40]}.json")


def prune(directory: Path, now: float | None = None) -> int:
    """Remove journals, and lists of interrupted runs, older than any upload. Return how many.

    Skip files that cannot be removed. Blocking.
    """
    oldest = (time.time() if now is None else now) - _KEEP_SECONDS
    removed = 0
    for path in (*(directory / "uploads").glob("*.*"), *(directory / "runs").glob("*.jsonl")):
        try:
            if path.suffix != ".lock" and path.stat().st_mtime < oldest:
                path.unlink()
                removed += 1
        except OSError:
            # The run of the journal removed it meanwhile, or the folder is read-only.
            continue
    return removed


def _same_file(descriptor: int, path: Path) -> bool:
    """Return whether the path still names the locked file: its last holder may have unlinked it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
