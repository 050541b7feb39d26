"""Reader of a file behind a descriptor, by offset."""

from __future__ import annotations

import io
import os
from typing import Any, Final

_BUFFER_BYTES: Final = 256 * 1024


class _Positioned(io.RawIOBase):
    """Raw reader on top of `pread`; never moves the position of the caller's descriptor.

    It has no `fileno`, so that no decoder bypasses it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = os.preadv(self._fd, [memoryview(buffer)], self._at)
        self._at += read
        return read

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("cannot seek before the beginning of the file")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at


def open_descriptor(fd: int) -> io.BufferedReader:
    """Return a buffered reader of the file behind `fd`, which stays open and is not moved."""
    return io.BufferedReader(_Positioned(fd), _BUFFER_BYTES)
