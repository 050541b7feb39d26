"""A picture as the child process of the processor treats it, in this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from sluice_processor.images.decoding import process_image
from sluice_processor.images.model import ImageOptions, ProcessedImage

OPTIONS: Final = ImageOptions(thumbnail_sizes=(64,))


def process(
    data: bytes, options: ImageOptions = OPTIONS, sizes: Sequence[int] | None = None
) -> ProcessedImage:
    """Return facts and thumbnails of a file; `decoding.prepare` has to be called before.

    Args:
        sizes: of the thumbnails; those of the options by default.
    """
    fd = os.memfd_create("picture")
    try:
        os.write(fd, data)
        return process_image(fd, options, options.thumbnail_sizes if sizes is None else sizes)
    finally:
        os.close(fd)
