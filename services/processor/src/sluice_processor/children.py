"""A bounded pool of decoder children: one picture at a time each, none endangers the parent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sluice_processor.model import ImageOptions, ProcessedImage


class ImageWorkers:
    """Decodes pictures in child processes; use as an async context manager.

    `process` may be called by any number of tasks: at most `options.workers` pictures are decoded
    at a time, the other callers wait their turn.
    """

    def __init__(self, options: ImageOptions) -> None:
        self._options = options

    async def __aenter__(self) -> Self:
        """Start the first child, so that a machine that cannot decode fails here."""
        raise NotImplementedError

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill every child and wait for its end; calls that still wait get `CancelledError`."""
        raise NotImplementedError

    async def process(
        self, source: int | Path, sizes: Sequence[int] | None = None
    ) -> ProcessedImage:
        """Make thumbnails of a picture, and read its facts.

        Args:
            source: a path, or the descriptor of a regular file or memfd; read by offset from 0,
                its position is neither used nor moved, and it stays the caller's to close (not
                before this call has ended).
            sizes: longest sides in pixels, instead of those of the options; empty reads the
                facts only, after decoding all the same.

        Raises `ImageRefused`, whose reason says whether the same bytes may pass later. Cancelling
        kills the child that decodes and replaces it; nothing of the picture stays behind.
        """
        raise NotImplementedError
