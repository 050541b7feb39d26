"""Detection of nodes that cannot all be written below one folder, before anything is written."""

from __future__ import annotations

import os
import secrets
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_MOST_NAMED = 20
"""Most clashes reported by name; a large tree may have thousands."""
_MOST_PATHS = 3


@dataclass(slots=True)
class Clash:
    """One local path and the nodes that need it."""

    files: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)
    """Nodes that need the path as a folder."""

    @property
    def nodes(self) -> list[str]:
        return self.files + self.below

    def __str__(self) -> str:
        if self.below:
            return f"{self.files[0]} would be a file, and a folder for {self.below[0]}"
        return f"{' and '.join(self.files)} would be one file"


class ClashFinder:
    """Finds clashes in two passes over the same paths, keeping one number per file and folder.

    A drive may hold the nodes `a` and `a/b`; on a file system, `a` cannot be a file and a folder. A
    file system that ignores case, or that treats several spellings of a letter as one, has one file
    for several nodes.

    Args:
        key: equal for paths that the file system treats as one.
    """

    def __init__(self, key: Callable[[str], str]) -> None:
        self._key = key
        self._files: set[int] = set()
        self._folders: set[int] = set()
        self._suspects: set[int] = set()
        self._found: dict[str, Clash] = {}

    @property
    def suspicious(self) -> bool:
        """Whether a second pass is needed to find the names."""
        return bool(self._suspects)

    def is_suspect(self, path: str) -> bool:
        """Return whether another node may need the local path of this one."""
        return hash(self._key(path)) in self._suspects

    def add(self, path: str) -> None:
        """Record a path below the destination: the first pass."""
        key = self._key(path)
        mark = hash(key)
        if mark in self._files or mark in self._folders:
            self._suspects.add(mark)
        self._files.add(mark)
        for folder in _folders_of(key):
            mark = hash(folder)
            if mark in self._files:
                self._suspects.add(mark)
            if mark in self._folders:
                break
            self._folders.add(mark)

    def name(self, path: str) -> None:
        """Record which node needs which path: the second pass."""
        key = self._key(path)
        if hash(key) in self._suspects:
            self._note(key, lambda clash: clash.files, path)
        for folder in _folders_of(key):
            if hash(folder) in self._suspects:
                self._note(folder, lambda clash: clash.below, path)

    def clashes(self) -> list[Clash]:
        """Return the clashes, after the second pass."""
        return [
            clash
            for clash in self._found.values()
            if len(clash.files) > 1 or (clash.files and clash.below)
        ]

    def _note(self, key: str, kind: Callable[[Clash], list[str]], path: str) -> None:
        if key not in self._found and len(self._found) >= _MOST_NAMED:
            return
        paths = kind(self._found.setdefault(key, Clash()))
        if len(paths) < _MOST_PATHS:
            paths.append(path)


def folded(path: str) -> str:
    """Return the key of a path for a file system that folds names.

    Folds more than any single file system does: case, composition, and the trailing dots and blanks
    that FAT drops.
    """
    if path.isascii():
        text = path.lower()
    else:
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())
    if ". " in text or "./" in text or " /" in text or text.endswith((".", " ")):
        text = "/".join(segment.rstrip(". ") for segment in text.split("/"))
    return text


def folds_names(destination: Path) -> bool:
    """Return whether the destination's file system treats several spellings as one name. Blocking.

    Probe with an empty temporary file in the nearest existing folder. Where none can be created,
    the download cannot be written either and reports that error.
    """
    folder = destination.resolve()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    stem = f".sluice-{secrets.token_hex(4)}-"
    for name, others in ((f"{stem}é", [f"{stem}e\u0301"]), (f"{stem}x", [f"{stem}X", f"{stem}x."])):
        probe = folder / name
        try:
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError:
            continue
        try:
            if any((folder / other).exists() for other in others):
                return True
        finally:
            probe.unlink(missing_ok=True)
    return False


def _folders_of(path: str) -> Iterator[str]:
    """Yield the folders of a path, the deepest one first."""
    end = path.rfind("/")
    while end > 0:
        path = path[:end]
        yield path
        end = path.rfind("/")
