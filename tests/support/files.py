"""Files to upload: deterministic, large ones without being held in memory."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1024 * 1024


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_random(path: Path, size: int, seed: int) -> Path:
    """A file of `size` random bytes; the same seed makes the same file."""
    source = random.Random(seed)
    with path.open("wb") as file:
        left = size
        while left:
            step = min(left, 8 * MIB)
            file.write(source.randbytes(step))
            left -= step
    return path


def write_sparse(path: Path, size: int, seed: int, islands: int = 64) -> Path:
    """A sparse file of `size` bytes with random islands of 64 KiB, the last byte among them."""
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
    """Regular files by their path relative to `folder`; links are left out."""
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@contextmanager
def held(data: bytes) -> Iterator[int]:
    """The descriptor of a file in memory with this content."""
    fd = os.memfd_create("held")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)
