"""Bare loop around Pillow, one process per core: the peer of the processor.

python -m bench.peers.pillow_loop SECONDS PHOTO…    prints {"photos": …, "seconds": …}
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

_SIZES: Final = (1024, 256)
_DRAFT: Final = (1280, 1280)
_QUALITY: Final = 80
_EFFORT: Final = 2


def thumbnails(path: Path) -> list[bytes]:
    """Do the processor's work for one photo, without anything around it.

    The same work by the same means as the processor's children: the object hashed, EXIF read, JPEG
    decoded at the required scale, rotated upright, 1,024 and 256 pixels, WebP without metadata. No
    child process, no limits, no IPC: a broken picture ends the loop.
    """
    data = path.read_bytes()
    hashlib.sha256(data).digest()
    images = []
    with Image.open(io.BytesIO(data)) as opened:
        width, height = opened.size
        opened.draft(None, (_DRAFT[0], max(1, _DRAFT[1] * height // width)))
        dict(opened.getexif())
        image = ImageOps.exif_transpose(_scaled(opened, _SIZES[0]))
        for size in _SIZES:
            image = _scaled(image, size)
            output = io.BytesIO()
            image.save(output, "WEBP", quality=_QUALITY, method=_EFFORT, exif=b"")
            images.append(output.getvalue())
    return images


def _scaled(image: Image.Image, longest: int) -> Image.Image:
    if max(image.size) == longest:
        return image
    ratio = longest / max(image.size)
    width, height = (max(1, round(side * ratio)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


def loop(seconds: float, photos: Sequence[Path]) -> dict[str, float]:
    """Cycle through the photos until the time is up; the current one is finished and counts."""
    thumbnails(photos[0])
    done = 0
    begun = time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        thumbnails(photos[done % len(photos)])
        done += 1
    return {"photos": done, "seconds": passed}


def main() -> None:
    print(json.dumps(loop(float(sys.argv[1]), [Path(name) for name in sys.argv[2:]])))


if __name__ == "__main__":
    main()
