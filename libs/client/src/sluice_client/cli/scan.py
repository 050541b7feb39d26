"""Which local files to upload, and what they will be called. Blocking: runs in a thread."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_FORBIDDEN = frozenset({"Cc", "Zl", "Zp"})
"""Unicode categories that no node path holds: control characters and line separators."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file and the path of its node."""

    source: str
    node_path: str
    size: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not uploaded; `failed` when somebody should do something about it."""

    source: str
    reason: str
    message: str
    failed: bool


Found = LocalFile | LeftOut


def scan(roots: Sequence[str], prefix: str) -> Iterator[Found]:
    """Everything below the roots, in the order of the file system.

    A file keeps its name; a folder keeps its own name in front of what lies in it, unless it is
    written with a "/" at its end (or is `.`, `..` or `/`), which means its contents. Memory is
    bounded by the number of folders side by side, not by the number of files.
    """
    seen: set[int] = set()
    for root in roots:
        for found in _scan_root(root, prefix.strip("/")):
            if isinstance(found, LocalFile):
                mark = hash(found.node_path)
                if mark in seen:
                    yield LeftOut(
                        found.source,
                        "DUPLICATE_PATH",
                        f"another file of this run goes to {found.node_path} as well",
                        failed=True,
                    )
                    continue
                seen.add(mark)
            yield found


def _scan_root(root: str, prefix: str) -> Iterator[Found]:
    try:
        status = os.lstat(root.rstrip("/") or "/")
    except (OSError, ValueError) as error:
        yield _unreadable(root, error)
        return
    name = os.path.basename(root)
    if stat.S_ISDIR(status.st_mode):
        if name not in ("", ".", ".."):
            problem = name_problem(root, name)
            if problem is not None:
                yield problem
                return
            prefix = _join(prefix, name)
        yield from _walk(root, prefix)
    else:
        source = root.rstrip("/")
        yield _one(source, os.path.basename(source), prefix, status)


def _walk(root: str, prefix: str) -> Iterator[Found]:
    folders = [(root, prefix)]
    while folders:
        folder, below = folders.pop()
        deeper: list[tuple[str, str]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError as error:
                        yield _unreadable(entry.path, error)
                        continue
                    if not stat.S_ISDIR(status.st_mode):
                        yield _one(entry.path, entry.name, below, status)
                        continue
                    problem = name_problem(entry.path, entry.name)
                    if problem is not None:
                        yield problem
                    else:
                        deeper.append((entry.path, _join(below, entry.name)))
        except OSError as error:
            yield _unreadable(folder, error)
        folders += reversed(deeper)


def _one(source: str, name: str, prefix: str, status: os.stat_result) -> Found:
    if stat.S_ISLNK(status.st_mode):
        return LeftOut(source, "SYMBOLIC_LINK", "symbolic links are not followed", failed=False)
    if not stat.S_ISREG(status.st_mode):
        return LeftOut(source, "SPECIAL_FILE", "not a regular file", failed=False)
    problem = name_problem(source, name)
    if problem is not None:
        return problem
    return LocalFile(source, _join(prefix, name), status.st_size)


def name_problem(source: str, name: str) -> LeftOut | None:
    """Why this name cannot be part of a node path, if it cannot."""
    if name.isascii() and name.isprintable():
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return LeftOut(
            source, "NAME_NOT_UTF8", "the name is not UTF-8; rename it to upload it", failed=True
        )
    if any(unicodedata.category(character) in _FORBIDDEN for character in name):
        return LeftOut(
            source,
            "NAME_HAS_CONTROL_CHARACTERS",
            "the name holds a line break or another control character; rename it to upload it",
            failed=True,
        )
    return None


def _join(prefix: str, name: str) -> str:
    """Paths of nodes are in NFC, so that two spellings of one name are one place."""
    path = f"{prefix}/{name}" if prefix else name
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def _unreadable(source: str, error: Exception) -> LeftOut:
    reason = "NOT_FOUND" if isinstance(error, FileNotFoundError) else "UNREADABLE"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return LeftOut(source, reason, text, failed=True)
