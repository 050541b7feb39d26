"""A file composed of pieces of another one, without a copy."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from sluice_processor.images.positioned import BUFFER_BYTES, PositionedFile

Piece = bytes | tuple[int, int]
"""Bytes as they are, or (begin, end) in the file."""


class _Spliced(PositionedFile):
    def __init__(self, file: io.BufferedReader, pieces: Sequence[Piece]) -> None:
        self._file = file
        self._pieces = [piece for piece in pieces if _length(piece) > 0]
        self._starts = [0]
        for piece in self._pieces:
            self._starts.append(self._starts[-1] + _length(piece))
        super().__init__(self._starts[-1])

    def readinto(self, buffer: Any) -> int:
        index = bisect_right(self._starts, self._at) - 1
        if index >= len(self._pieces):
            return 0
        piece, within = self._pieces[index], self._at - self._starts[index]
        count = min(len(buffer), _length(piece) - within)
        if isinstance(piece, bytes):
            data = piece[within : within + count]
        else:
            self._file.seek(piece[0] + within)
            data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def splice(file: io.BufferedReader, pieces: Sequence[Piece]) -> io.BufferedReader:
    """Return a buffered reader of the concatenated pieces; it moves the position of `file`."""
    return io.BufferedReader(_Spliced(file, pieces), BUFFER_BYTES)


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
