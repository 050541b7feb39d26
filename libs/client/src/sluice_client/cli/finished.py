"""What an interrupted upload of many files has finished, so that the next run leaves it alone.

One line per finished file is appended as it is finished; the list goes when a run ends without a
failure. It is a hint: the next run asks the server whether the node still is what was uploaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sluice_client.cli.scan import LocalFile
from sluice_client.sources import FileIdentity

_KEEP_SECONDS = 24 * 3600.0


class FinishedFiles:
    """The list of one command line. Opening, closing and `add` block shortly."""

    def __init__(self, directory: Path, command: Sequence[str]) -> None:
        digest = hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape")).hexdigest()
        self.path = directory / "runs" / f"{digest[:40]}.jsonl"
        self._node_ids: dict[str, str] = {}
        self._descriptor = -1

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        if time.time() - os.fstat(self._descriptor).st_mtime > _KEEP_SECONDS:
            os.truncate(self._descriptor, 0)
        with open(os.dup(self._descriptor), encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self._load(line)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def node_id(self, file: LocalFile) -> str | None:
        """The node that an earlier run made of this very file, as it is now."""
        if not self._node_ids:
            return None
        try:
            return self._node_ids.get(_key(file))
        except OSError:
            return None

    def add(self, file: LocalFile, node_id: str) -> None:
        try:
            key = _key(file)
        except OSError:
            # Gone since: then there is nothing that a next run could leave alone.
            return
        # One write with O_APPEND: a crash tears at most the last line, which is then ignored.
        os.write(self._descriptor, json.dumps([key, node_id]).encode() + b"\n")

    def forget(self) -> None:
        """The run ended well: the next one is a new one."""
        self.path.unlink(missing_ok=True)

    def _load(self, line: str) -> None:
        try:
            key, node_id = json.loads(line)
            self._node_ids[str(key)] = str(node_id)
        except (ValueError, TypeError):
            return


def _key(file: LocalFile) -> str:
    identity = FileIdentity.of(os.lstat(file.source))
    text = f"{os.path.abspath(file.source)}\0{file.node_path}\0{identity}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
