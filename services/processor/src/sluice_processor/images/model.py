"""What the image core takes and gives; values only, imported by parent and children alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

MIB: Final = 1024 * 1024


class ImageFormat(StrEnum):
    """The allow-list; everything else is refused."""

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
    """What thumbnails are written as."""

    WEBP = "webp"
    JPEG = "jpeg"
    """Has no transparency: what is transparent becomes white."""

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"

    @property
    def extension(self) -> str:
        """Of a file name, without the dot."""
        return "jpg" if self is ThumbnailFormat.JPEG else self.value


class RefusalReason(StrEnum):
    """Why there is nothing to show for an object. Stable: in events, metrics and logs."""

    EMPTY = "EMPTY"
    """No bytes at all."""
    TOO_LARGE = "TOO_LARGE"
    """More bytes than `ImageOptions.max_source_bytes`."""
    UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
    """Not on the allow-list, or not an image."""
    POLYGLOT = "POLYGLOT"
    """An image that is a document, an archive or a script as well."""
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
        """Whether the same bytes are refused again for certain; the others may be worth a retry."""
        return self not in _MAY_PASS_LATER


_MAY_PASS_LATER: Final = frozenset(
    {RefusalReason.MEMORY, RefusalReason.TIMEOUT, RefusalReason.CRASHED}
)


class ImageRefused(Exception):
    """This object gets no thumbnails.

    `detail` is a sentence of ours; it never carries anything that was read out of the object.
    """

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How pictures are decoded and what is made of them.

    Memory at most: `workers` x `child_memory_bytes`, and one answer of at most
    `max_answer_bytes` for each worker in the parent.
    """

    thumbnail_sizes: tuple[int, ...] = (256, 1024)
    """Longest side in pixels, one thumbnail for each; a smaller picture is never made larger."""
    thumbnail_format: ThumbnailFormat = ThumbnailFormat.WEBP
    thumbnail_quality: int = 80
    """1 to 100, in the words of the format."""

    max_source_bytes: int = 512 * MIB
    max_pixels: int = 200_000_000
    """Width x height that the header may claim."""
    max_frames: int = 10_000
    """Of an animation or a file of many pages; only the first is decoded."""

    workers: int = 2
    """Children that decode at the same time; as many as cores."""
    items_per_child: int = 500
    """After so many a child is replaced, whatever its decoders have leaked."""
    child_memory_bytes: int = 1280 * MIB
    """Address space of one child (RLIMIT_AS)."""
    cpu_seconds: float = 10.0
    """Processor time of one picture: the same on a busy machine."""
    wall_seconds: float = 60.0
    """Of one picture, from the moment a child takes it: ends a child that hangs, and is a multiple
    of `cpu_seconds`, so that a busy machine does not fail good pictures."""
    start_seconds: float = 20.0
    """Within which a new child has to be ready."""
    max_answer_bytes: int = 16 * MIB
    """Thumbnails and facts of one picture together."""


@dataclass(frozen=True, slots=True)
class Gps:
    """Where a picture was taken. Kept apart from everything else: a drive may drop it.

    Never in a log line, an error text or a thumbnail; `repr` shows nothing of it.
    """

    latitude: float
    """Degrees, north is positive."""
    longitude: float
    """Degrees, east is positive."""
    altitude_metres: float | None = None
    """Above the sea, below is negative."""
    direction_degrees: float | None = None
    """Where the camera looked, clockwise from north."""
    taken_at: str | None = None
    """UTC of the satellites, ISO 8601."""

    def __repr__(self) -> str:
        return "Gps(…)"

    def to_json(self) -> dict[str, Any]:
        """A JSON object without the fields that are not known."""
        return _known(asdict(self))


@dataclass(frozen=True, slots=True)
class ExifFacts:
    """What the camera wrote down, as far as it is believable. Strings are clean and short."""

    taken_at: str | None = None
    """ISO 8601 with fractions and offset as far as the camera knew them; local time without."""
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
    """What the angle of view corresponds to on 35 mm film."""
    flash_fired: bool | None = None
    orientation: int | None = None
    """1 to 8, as in the file; the thumbnails and `ImageFacts` have it applied."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object without the fields that are not known."""
        return _known(asdict(self))


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of a picture besides its pixels."""

    format: ImageFormat
    width: int
    """Pixels as shown: after the orientation."""
    height: int
    frames: int
    """1 for a still picture."""
    exif: ExifFacts
    gps: Gps | None
    damaged: bool = False
    """The file is not as its format wants it; every pixel that is shown is there."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One finished thumbnail; without EXIF, XMP, comments and colour profile (it is sRGB)."""

    size: int
    """The longest side that was asked for; the picture may be smaller."""
    width: int
    height: int
    format: ThumbnailFormat
    data: bytes

    def __repr__(self) -> str:
        return f"Thumbnail({self.size}: {self.width}x{self.height}, {len(self.data)} bytes)"


@dataclass(frozen=True, slots=True)
class ProcessedImage:
    """All that comes of one picture."""

    facts: ImageFacts
    thumbnails: tuple[Thumbnail, ...]
    """In the order of the sizes that were asked for."""
    decode_seconds: float
    """Wall time in the child: header, EXIF and pixels."""
    thumbnail_seconds: float
    """Wall time in the child: scaling and encoding."""


def _known(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
