"""What an interrupted upload of many files has finished, so that the next run leaves it alone.

One line per finished file is appended as it is finished; the list goes when a run ends without a
failure. It is a hint: the next run asks the server whether the node still is what was uploaded.
"""

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
    """The list of one command line. Opening, closing and `add` block shortly.

    No method raises OSError: a list that cannot be kept makes the next run upload again, no more.

    Args:
        directory: where lists are kept; None keeps none.
        command: what makes two command lines the same run.
        failed: called once, with the error of a list that cannot be kept.
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
                self._give_up(error)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def node_id(self, file: LocalFile) -> str | None:
        """The node that an earlier run made of this very file, as it is now."""
        if not self._node_ids or file.size is None:
            return None
        try:
            # As the upload would open it: a link that was named is followed.
            now = FileIdentity.of(os.stat(file.source))
        except OSError:
            return None
        return self._node_ids.get(_key(file, now))

    def add(self, file: LocalFile, identity: FileIdentity | None, node_id: str) -> None:
        """Note that the file as it was read, which has `identity`, became a node."""
        if self._path is None or self._descriptor < 0 or identity is None:
            return
        # One write with O_APPEND: a crash tears at most the last line, which is then ignored.
        line = json.dumps([_key(file, identity), node_id]).encode() + b"\n"
        try:
            with naming(self._path):
                os.write(self._descriptor, line)
        except OSError as error:
            self._give_up(error)

    def forget(self) -> None:
        """The run ended well: the next one is a new one."""
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._give_up(error)

    def _open(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if time.time() - os.fstat(self._descriptor).st_mtime > _KEEP_SECONDS:
            os.truncate(self._descriptor, 0)
        with open(os.dup(self._descriptor), encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self._load(line)

    def _give_up(self, error: OSError) -> None:
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
