"""Base of the files that the decoders read by position."""

from __future__ import annotations

import io
import os
from typing import Final

BUFFER_BYTES: Final = 256 * 1024


class PositionedFile(io.RawIOBase):
    """Readable, seekable file of a known size; a subclass reads at `self._at` in `readinto`.

    It has no `fileno`, so that no decoder bypasses it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("cannot seek before the beginning of the file")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at
