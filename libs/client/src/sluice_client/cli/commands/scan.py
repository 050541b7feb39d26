"""Scan for the local files to upload and their node paths. Blocking: runs in a thread."""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sluice_client.local_files import named_descriptor

_FORBIDDEN = frozenset({"Cc", "Zl", "Zp"})
"""Unicode categories that no node path contains: control characters and line separators."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file and the path of its node."""

    source: str
    node_path: str
    size: int | None
    """None where the size is unknown before the end: a pipe, a terminal, a device."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry that is not uploaded; `failed` when the user should act on it."""

    source: str
    reason: str
    message: str
    failed: bool


Found = LocalFile | LeftOut

STANDARD_INPUT = "/dev/stdin"


def naming_problem(roots: Sequence[str], name: str | None) -> str | None:
    """Return why the node of a single source needs a name, or cannot have this one; None if
    neither.
    """
    if name is None:
        nameless = next((root for root in roots if _is_nameless(root)), None)
        if nameless is None:
            return None
        return f"{nameless} has no name that its node could get; give one by --name"
    if len(roots) != 1 or os.path.isdir(roots[0]):
        return "--name names the node of a single file, not of several or of a folder"
    if any(segment in ("", ".", "..") for segment in name.split("/")):
        return f"{name!r} is not a node path; write it like 2026/cat.jpg"
    return None


def scan(roots: Sequence[str], prefix: str, name: str | None = None) -> Iterator[Found]:
    """Yield everything below the roots, in the order of the file system.

    A file keeps its name, unless `name` replaces it. A folder puts its name in front of its
    content's, unless it is written with a trailing "/" (or is `.`, `..` or `/`), which means its
    contents. Links are followed when they are roots. Memory is bounded by the number of sibling
    folders, not by the number of files.
    """
    seen: set[int] = set()
    for root in roots:
        for entry in _scan_root(root, prefix.strip("/"), name):
            if isinstance(entry, LocalFile):
                mark = hash(entry.node_path)
                if mark in seen:
                    yield LeftOut(
                        entry.source,
                        "DUPLICATE_PATH",
                        f"another file of this run goes to {entry.node_path} as well",
                        failed=True,
                    )
                    continue
                seen.add(mark)
            yield entry


def _scan_root(root: str, prefix: str, given: str | None) -> Iterator[Found]:
    if root == "-" and sys.stdin is None:
        yield LeftOut(root, "NOT_FOUND", "standard input is closed", failed=True)
        return
    source = STANDARD_INPUT if root == "-" else root.rstrip("/") or root[:1]
    try:
        status = os.stat(source)
    except FileNotFoundError as error:
        if os.path.islink(source):
            message = "the link leads to nothing"
            yield LeftOut(root, "NOT_FOUND", message, failed=True)
        else:
            yield _unreadable(root, error)
        return
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
        return
    if stat.S_ISSOCK(status.st_mode) and named_descriptor(source) is None:
        message = "a socket cannot be read like a file"
        yield LeftOut(root, "SPECIAL_FILE", message, failed=True)
        return
    name = os.path.basename(source) if given is None else given
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    yield name_problem(source, name) or LocalFile(source, _join(prefix, name), size)


def _is_nameless(root: str) -> bool:
    """Return whether a root is a stream, or named only by a descriptor's number."""
    if root == "-" or named_descriptor(root) is not None:
        return True
    try:
        mode = os.stat(root.rstrip("/") or root[:1]).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


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
        message = "a symbolic link in a folder is not followed"
        return LeftOut(source, "SYMBOLIC_LINK", message, failed=False)
    if not stat.S_ISREG(status.st_mode):
        return LeftOut(source, "SPECIAL_FILE", "not a regular file", failed=False)
    problem = name_problem(source, name)
    if problem is not None:
        return problem
    return LocalFile(source, _join(prefix, name), status.st_size)


def name_problem(source: str, name: str) -> LeftOut | None:
    """Return why this name cannot be part of a node path; None if it can."""
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
    """Join node paths in NFC, so that two spellings of one name are one node."""
    path = f"{prefix}/{name}" if prefix else name
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def _unreadable(source: str, error: Exception) -> LeftOut:
    reason = "NOT_FOUND" if isinstance(error, FileNotFoundError) else "UNREADABLE"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return LeftOut(source, reason, text, failed=True)
