"""Reader of a file behind a descriptor, by offset."""

from __future__ import annotations

import io
import os
from typing import Any

from sluice_processor.images.positioned import BUFFER_BYTES, PositionedFile


class _Descriptor(PositionedFile):
    """Raw reader on top of `pread`; never moves the position of the caller's descriptor."""

    def __init__(self, fd: int) -> None:
        super().__init__(os.fstat(fd).st_size)
        self._fd = fd

    def readinto(self, buffer: Any) -> int:
        read = os.preadv(self._fd, [memoryview(buffer)], self._at)
        self._at += read
        return read


def open_descriptor(fd: int) -> io.BufferedReader:
    """Return a buffered reader of the file behind `fd`, which stays open and is not moved."""
    return io.BufferedReader(_Descriptor(fd), BUFFER_BYTES)
