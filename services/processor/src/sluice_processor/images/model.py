"""Value types of the image core, shared by the parent and the decoder children."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

MIB: Final = 1024 * 1024


class ImageFormat(StrEnum):
    """Formats on the allow-list; everything else is refused."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    HEIC = "heic"
    AVIF = "avif"
    TIFF = "tiff"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"


class ThumbnailFormat(StrEnum):
    """Output formats of thumbnails."""

    WEBP = "webp"
    JPEG = "jpeg"
    """Has no transparency: transparent pixels become white."""

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"

    @property
    def extension(self) -> str:
        """File name extension, without the dot."""
        return "jpg" if self is ThumbnailFormat.JPEG else self.value


class RefusalReason(StrEnum):
    """Why an object has no thumbnails. Stable: part of events, metrics and logs."""

    EMPTY = "EMPTY"
    """No bytes at all."""
    TOO_LARGE = "TOO_LARGE"
    """More bytes than `ImageOptions.max_source_bytes`."""
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    """Not on the allow-list, or not an image."""
    TYPE_MISMATCH = "TYPE_MISMATCH"
    """Declared as a type of picture that the bytes are not."""
    INFECTED = "INFECTED"
    """The virus scanner found something."""
    POLYGLOT = "POLYGLOT"
    """An image that is also a document or an archive."""
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
    TOO_MANY_FRAMES = "TOO_MANY_FRAMES"
    BOMB = "BOMB"
    """Unpacks into far more than its header promises, e.g. compressed text in a PNG."""
    TRUNCATED = "TRUNCATED"
    """Ends before the picture does."""
    CORRUPT = "CORRUPT"
    """The decoder cannot make a picture of it."""
    MEMORY = "MEMORY"
    """Decoding needs more memory than a child may have."""
    TIMEOUT = "TIMEOUT"
    """Decoding takes more time than a child may have."""
    CRASHED = "CRASHED"
    """The child died while decoding."""

    @property
    def is_final(self) -> bool:
        """Whether a retry with the same bytes is certain to be refused."""
        return self not in _RETRYABLE


_RETRYABLE: Final = frozenset({RefusalReason.MEMORY, RefusalReason.TIMEOUT, RefusalReason.CRASHED})


class ImageRefused(Exception):
    """This object gets no thumbnails.

    `detail` is one of our own sentences; it never quotes content of the object.
    """

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How pictures are decoded, and which thumbnails are made.

    Maximum memory: `workers` x `child_memory_bytes`, and one answer of at most
    `max_answer_bytes` for each worker in the parent.
    """

    thumbnail_sizes: tuple[int, ...] = (256, 1024)
    """Longest sides in pixels, one thumbnail each; pictures are never enlarged."""
    thumbnail_format: ThumbnailFormat = ThumbnailFormat.WEBP
    thumbnail_quality: int = 80
    """1 to 100, as the format defines it."""

    max_source_bytes: int = 512 * MIB
    max_pixels: int = 200_000_000
    """Limit of width x height, as claimed by the header."""
    max_frames: int = 10_000
    """Limit of frames or pages; only the first one is decoded."""

    workers: int = 2
    """Number of decoder children; set it to the number of cores."""
    items_per_child: int = 500
    """A child is replaced after this many pictures, which bounds leaks of its decoders."""
    child_memory_bytes: int = 1280 * MIB
    """Address space of one child (RLIMIT_AS)."""
    cpu_seconds: float = 10.0
    """Processor time of one picture; does not depend on the load of the machine."""
    wall_seconds: float = 60.0
    """Wall time of one picture in its child. It ends children that hang; a multiple of
    `cpu_seconds`, so that a busy machine does not fail good pictures."""
    start_seconds: float = 20.0
    """Time within which a new child must be ready."""
    max_answer_bytes: int = 16 * MIB
    """Limit of the thumbnails and facts of one picture together."""


@dataclass(frozen=True, slots=True)
class Gps:
    """Where a picture was taken. Kept apart from other facts: a drive may drop it.

    Never part of a log line, an error text or a thumbnail; `repr` hides it.
    """

    latitude: float
    """Degrees, north is positive."""
    longitude: float
    """Degrees, east is positive."""
    altitude_metres: float | None = None
    """Above sea level; negative below it."""
    direction_degrees: float | None = None
    """Viewing direction, clockwise from north."""
    taken_at: str | None = None
    """UTC of the satellites, ISO 8601."""

    def __repr__(self) -> str:
        return "Gps(…)"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object without unknown fields."""
        return _without_none(asdict(self))


@dataclass(frozen=True, slots=True)
class ExifFacts:
    """Plausible EXIF values. Strings are clean and short."""

    taken_at: str | None = None
    """ISO 8601, with fraction and offset if known; without an offset it is local time."""
    digitized_at: str | None = None
    modified_at: str | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    lens_make: str | None = None
    lens_model: str | None = None
    software: str | None = None
    exposure_seconds: float | None = None
    exposure_bias_ev: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    focal_length_35mm: float | None = None
    """35 mm equivalent of the angle of view."""
    flash_fired: bool | None = None
    orientation: int | None = None
    """1 to 8, as in the file; the thumbnails and `ImageFacts` have it applied."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object without unknown fields."""
        return _without_none(asdict(self))


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts about a picture besides its pixels."""

    format: ImageFormat
    width: int
    """In pixels, as shown: with the orientation applied."""
    height: int
    frames: int
    """1 for a still picture."""
    exif: ExifFacts
    gps: Gps | None
    damaged: bool = False
    """Whether the file violates its format; all pixels are intact nevertheless."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One finished thumbnail; without EXIF, XMP, comments and colour profile (it is sRGB)."""

    size: int
    """The requested longest side; the picture may be smaller."""
    width: int
    height: int
    format: ThumbnailFormat
    data: bytes

    def __repr__(self) -> str:
        return f"Thumbnail({self.size}: {self.width}x{self.height}, {len(self.data)} bytes)"


@dataclass(frozen=True, slots=True)
class ProcessedImage:
    """The result for one picture."""

    facts: ImageFacts
    thumbnails: tuple[Thumbnail, ...]
    """In the order of the requested sizes."""
    decode_seconds: float
    """Wall time in the child: header, EXIF and pixels."""
    thumbnail_seconds: float
    """Wall time in the child: scaling and encoding."""


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
