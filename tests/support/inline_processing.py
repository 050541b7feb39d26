"""Image processing as in the processor's child process, inside the test process."""

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
    """Return properties and thumbnails of a file; call `decoding.prepare` first.

    Args:
        sizes: of the thumbnails; those of the options by default.
    """
    fd = os.memfd_create("picture")
    try:
        os.write(fd, data)
        return process_image(fd, options, options.thumbnail_sizes if sizes is None else sizes)
    finally:
        os.close(fd)
