"""Record of the files that an interrupted upload has finished, so that the next run skips them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sluice_client.cli.commands.scan import LocalFile
from sluice_client.local_files import naming
from sluice_client.model import FileIdentity

_KEEP_SECONDS = 24 * 3600.0


class FinishedFiles:
    """Finished files of one command line. Opening, closing and `add` block briefly.

    One line is appended per finished file; the list is removed when a run ends without a failure.
    It is a hint: the next run asks the server whether the node still is what was uploaded. No
    method raises OSError: without the list the next run uploads again, no more.

    Args:
        directory: where lists are kept; None keeps none.
        command: identifies a run: equal for two command lines that are the same run.
        failed: called once, with the error that prevents keeping the list.
    """

    def __init__(
        self, directory: Path | None, command: Sequence[str], failed: Callable[[OSError], None]
    ) -> None:
        digest = hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape")).hexdigest()
        self._path = None if directory is None else directory / "runs" / f"{digest[:40]}.jsonl"
        self._failed = failed
        self._node_ids: dict[str, str] = {}
        self._descriptor = -1

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._open(self._path)
            except OSError as error:
                self._stop_keeping(error)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def node_id(self, file: LocalFile) -> str | None:
        """Return the node that an earlier run made of this version of the file, or None."""
        if not self._node_ids or file.size is None:
            return None
        try:
            # As the upload would open it: a link given as a root is followed.
            now = FileIdentity.of(os.stat(file.source))
        except OSError:
            return None
        return self._node_ids.get(_key(file, now))

    def add(self, file: LocalFile, identity: FileIdentity | None, node_id: str) -> None:
        """Record that the file version `identity`, as read, became a node."""
        if self._path is None or self._descriptor < 0 or identity is None:
            return
        # One write with O_APPEND: a crash tears at most the last line, which is ignored on load.
        line = json.dumps([_key(file, identity), node_id]).encode() + b"\n"
        try:
            with naming(self._path):
                os.write(self._descriptor, line)
        except OSError as error:
            self._stop_keeping(error)

    def forget(self) -> None:
        """Remove the list: the run succeeded, so the next one starts from scratch."""
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._stop_keeping(error)

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if time.time() - os.fstat(self._descriptor).st_mtime > _KEEP_SECONDS:
            os.truncate(self._descriptor, 0)
        with open(os.dup(self._descriptor), encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self._load(line)

    def _stop_keeping(self, error: OSError) -> None:
        self._close()
        self._failed(error)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _load(self, line: str) -> None:
        try:
            key, node_id = json.loads(line)
            self._node_ids[str(key)] = str(node_id)
        except (ValueError, TypeError):
            return


def _key(file: LocalFile, identity: FileIdentity) -> str:
    text = f"{os.path.abspath(file.source)}\0{file.node_path}\0{identity}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
