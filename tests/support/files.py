"""Deterministic files to upload, written without holding them in memory."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1024 * 1024


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_random(path: Path, size: int, seed: int) -> Path:
    """Write `size` random bytes that are determined by the seed."""
    source = random.Random(seed)
    with path.open("wb") as file:
        left = size
        while left:
            step = min(left, 8 * MIB)
            file.write(source.randbytes(step))
            left -= step
    return path


def write_sparse(path: Path, size: int, seed: int, islands: int = 64) -> Path:
    """Write a sparse file of `size` bytes with random islands of 64 KiB and a last byte."""
    source = random.Random(seed)
    with path.open("wb") as file:
        os.truncate(file.fileno(), size)
        for _ in range(islands):
            file.seek(source.randrange(0, size - 65536))
            file.write(source.randbytes(65536))
        file.seek(size - 1)
        file.write(b"\x01")
    return path


def files_below(folder: Path) -> dict[str, Path]:
    """Return regular files by their path relative to `folder`, without links."""
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@contextmanager
def held(data: bytes) -> Iterator[int]:
    """Yield the descriptor of an in-memory file with this content."""
    fd = os.memfd_create("held")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)
