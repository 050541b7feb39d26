"""Photos on disk as a camera leaves them, for pages that send them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.load.photos import distinct, photo

# Width, height, quality: about 2 to 6 MB. Encoding one takes a second or more, so there are few.
_LARGE: Final = ((2800, 2100, 96), (3300, 2475, 96), (4000, 3000, 96), (4000, 3000, 98))
_SMALL: Final = (320, 240, 85)


@dataclass(frozen=True, slots=True)
class PhotoFiles:
    """Makes files in a folder from a few pictures, each file with a comment of its own."""

    folder: Path
    large: Sequence[bytes]
    small: bytes

    @classmethod
    def made_in(cls, folder: Path) -> PhotoFiles:
        large = [photo(w, h, seed, quality=q) for seed, (w, h, q) in enumerate(_LARGE)]
        width, height, quality = _SMALL
        return cls(folder, large, photo(width, height, 99, quality=quality))

    def camera(self, count: int, name: str = "IMG") -> list[Path]:
        """Return photos of 2 to 6 MB."""
        return self._written(
            (distinct(self.large[each % len(self.large)], each) for each in range(count)), name
        )

    def thumbs(self, count: int, name: str = "small") -> list[Path]:
        """Return photos of some 10 KB."""
        return self._written((distinct(self.small, each) for each in range(count)), name)

    def sized(self, size: int, name: str = "large") -> Path:
        """Return one photo of this many bytes; decoders ignore what follows the picture."""
        (file,) = self._written(iter([distinct(self.small, size, size)]), name)
        return file

    def written(self, name: str, content: bytes) -> Path:
        """Return a file of any content."""
        file = self.folder / name
        file.write_bytes(content)
        return file

    def _written(self, contents: Iterator[bytes], name: str) -> list[Path]:
        files = []
        for number, content in enumerate(contents, 1):
            file = self.folder / f"{name}_{number:04}.jpg"
            if not file.exists():
                file.write_bytes(content)
            files.append(file)
        return files
