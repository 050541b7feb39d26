"""Decoding of one picture to facts and thumbnails; runs in a decoder child."""

from __future__ import annotations

import hashlib
import io
import struct
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import pi_heif
from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from sluice_processor.images import thumbnails
from sluice_processor.images.avif import is_exif_error, without_exif
from sluice_processor.images.exif.facts import read_exif, read_orientation
from sluice_processor.images.exif.values import accept_utf8_fields
from sluice_processor.images.model import (
    ExifFacts,
    ImageFacts,
    ImageFormat,
    ImageOptions,
    ImageRefused,
    ProcessedImage,
    RefusalReason,
)
from sluice_processor.images.polyglot import refuse_polyglots
from sluice_processor.images.reader import open_descriptor
from sluice_processor.images.repair import MAX_PROFILE_BYTES, RepairedFile, repair_candidates
from sluice_processor.images.sniff import HEAD_BYTES, sniff
from sluice_processor.images.structure import Structure, refuse_frames, walk

_PLUGINS: Final = {
    ImageFormat.JPEG: ("JPEG",),
    ImageFormat.PNG: ("PNG",),
    ImageFormat.WEBP: ("WEBP",),
    ImageFormat.GIF: ("GIF",),
    ImageFormat.HEIC: ("HEIF",),
    ImageFormat.AVIF: ("AVIF",),
    ImageFormat.TIFF: ("TIFF",),
}
"""Pillow plugins per sniffed format; no other plugin sees the file."""

_LOADED: Final = (
    AvifImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
"""The plugins in `_PLUGINS`, imported before the child is confined."""

_DECODER_ERRORS: Final = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    TypeError,
    IndexError,
    KeyError,
    ZeroDivisionError,
    OverflowError,
    AttributeError,
    RuntimeError,
    struct.error,
)
"""What Pillow and its plugins raise for malformed input."""

_WEBP_BYTES_PER_PIXEL: Final = 12
"""Two canvases of the decoder, and the picture itself."""
_SAMPLE_PIXELS: Final = 50_000_000
_SAMPLE_SIDE: Final = 4096
_SAMPLE_ROWS: Final = 64
_DNG_VERSION: Final = 50706
_SUBFILE_TYPE: Final = 254
_REDUCED: Final = 1
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})


def prepare() -> None:
    """Set up the decoders, once per process: single-threaded and strict."""
    pi_heif.register_heif_opener(
        decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
    )
    accept_utf8_fields()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # Also bounds colour profiles. MAX_TEXT_MEMORY bounds all texts of a picture together.
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE_BYTES
    Image.MAX_IMAGE_PIXELS = None  # `_check_pixels` runs before a pixel is decoded
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.preinit()
    warnings.simplefilter("ignore")  # about broken metadata; a child's output is discarded


def process_image(fd: int, options: ImageOptions, sizes: Sequence[int]) -> ProcessedImage:
    """Decode the picture behind `fd` and make a thumbnail for each of `sizes`.

    A file that its decoder refuses is repaired and decoded again: only missing pixels are a
    reason to refuse it.

    Raise `ImageRefused` for a file that cannot be shown (TRUNCATED for every file that is cut,
    whatever its decoder reports), and `MemoryError`.
    """
    with open_descriptor(fd) as file:
        image_format = _sniffed(file)
        structure = walk(file, image_format, options.max_frames)
        if structure.size is not None:
            _check_pixels(structure.size, options)
        refuse_polyglots(file, structure)
        job = _Job(image_format, structure, options, sizes)
        first = _truncated()
        if not (structure.cut and image_format in _NEEDS_AN_END):
            try:
                return job.decode(file, damaged=structure.damaged)
            except ImageRefused as refused:
                if refused.reason not in _REPAIRABLE:
                    raise
                first = refused
        for repaired in repair_candidates(file, image_format):
            try:
                image = job.decode(repaired.file, damaged=True)
            except ImageRefused as refused:
                if refused.reason not in _REPAIRABLE:
                    raise  # a bomb, too many pixels, too little memory: not mere damage
                continue
            if job.is_whole(repaired):
                return image
        raise _truncated() if structure.cut else first


_NEEDS_AN_END: Final = frozenset({ImageFormat.JPEG, ImageFormat.WEBP})
"""Formats whose decoder, without an end marker, takes what follows for data or reads nothing."""
_REPAIRABLE: Final = frozenset({RefusalReason.TRUNCATED, RefusalReason.CORRUPT})


def _truncated() -> ImageRefused:
    return ImageRefused(RefusalReason.TRUNCATED, "The file ends before the picture does.")


@dataclass(frozen=True, slots=True)
class _Job:
    """Decoding of one file, as it is or repaired."""

    image_format: ImageFormat
    structure: Structure
    options: ImageOptions
    sizes: Sequence[int]

    def decode(self, file: io.BufferedReader, *, damaged: bool) -> ProcessedImage:
        """Return facts and thumbnails; raise `ImageRefused` and `MemoryError`."""
        began = time.perf_counter()
        options, sizes = self.options, self.sizes
        with self._translated():
            image = _opened(file, self.image_format, options)
            frames = self.structure.frames or _frames(image, options)
            facts, pixels, orientation = _loaded(image, self.image_format, frames, options, sizes)
            facts = replace(facts, damaged=damaged)
            decoded = time.perf_counter()
            made = thumbnails.make(pixels, orientation, facts, options, sizes)
        ended = time.perf_counter()
        return ProcessedImage(facts, made, decoded - began, ended - decoded)

    def is_whole(self, repaired: RepairedFile) -> bool:
        """Return whether no pixel depends on the bytes behind the data of the picture."""
        if repaired.witness is None:
            return True
        pixels = self._sample(repaired.file)
        if pixels != self._sample(repaired.witness):
            return False
        return not repaired.counters or any(
            pixels != self._sample(one) for one in repaired.counters
        )

    def _sample(self, file: io.BufferedReader) -> bytes:
        """Return a digest of the pixels; a very large picture is decoded at reduced size."""
        with self._translated():
            image = _opened(file, self.image_format, self.options)
            if image.width * image.height > _SAMPLE_PIXELS:
                thumbnails.draft(image, _SAMPLE_SIDE)
            image.load()
            digest = hashlib.sha256()
            for top in range(0, image.height, _SAMPLE_ROWS):
                below = min(image.height, top + _SAMPLE_ROWS)
                digest.update(image.crop((0, top, image.width, below)).tobytes())
        return digest.digest()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (ImageRefused, PermissionError):
            raise  # PermissionError is a defect: a confined child opened a file that is no module
        except _DECODER_ERRORS as error:
            if _was_too_large(self.structure, self.options):
                raise MemoryError from None
            raise _refusal(error) from None


def _sniffed(file: io.BufferedReader) -> ImageFormat:
    head = file.read(HEAD_BYTES)
    if not head:
        raise ImageRefused(RefusalReason.EMPTY, "The file has no bytes.")
    found = sniff(head)
    if found.format is None:
        raise ImageRefused(
            RefusalReason.UNSUPPORTED_FORMAT,
            f"{found.media_type or 'Unknown type'}: not a supported image format.",
        )
    return found.format


def _opened(
    file: io.BufferedReader, image_format: ImageFormat, options: ImageOptions
) -> Image.Image:
    file.seek(0)
    try:
        image = Image.open(file, formats=_PLUGINS[image_format])
    except ValueError as error:
        if image_format is not ImageFormat.AVIF or not is_exif_error(error):
            raise
        image = Image.open(without_exif(file), formats=_PLUGINS[image_format])
    _check_pixels(image.size, options)
    if image_format is ImageFormat.TIFF:
        _refuse_raw(image)
    return image


def _check_pixels(size: tuple[int, int], options: ImageOptions) -> None:
    width, height = size
    if width * height > options.max_pixels:
        raise ImageRefused(
            RefusalReason.TOO_MANY_PIXELS,
            f"{width} x {height} pixels are more than {options.max_pixels}.",
        )


def _refuse_raw(image: Image.Image) -> None:
    """Refuse raw photos in TIFF: their first page is a small preview, not the picture."""
    tags = image.getexif()
    subfile = tags.get(_SUBFILE_TYPE)
    if _DNG_VERSION in tags or (isinstance(subfile, int) and subfile & _REDUCED):
        raise ImageRefused(
            RefusalReason.UNSUPPORTED_FORMAT,
            "A raw photo in TIFF: not a supported image format.",
        )


def _frames(image: Image.Image, options: ImageOptions) -> int:
    """Return the number of frames, where the structure does not give it.

    The pictures of one JPEG (MPO) are one photo.
    """
    if image.format in ("JPEG", "MPO"):
        return 1
    frames = max(1, int(getattr(image, "n_frames", 1)))
    if frames > options.max_frames:
        refuse_frames(options.max_frames)
    return frames


def _loaded(
    image: Image.Image,
    image_format: ImageFormat,
    frames: int,
    options: ImageOptions,
    sizes: Sequence[int],
) -> tuple[ImageFacts, Image.Image, int]:
    """Return facts, pixels, and the orientation still to be applied to the pixels."""
    width, height = image.size
    early = None
    if image_format is ImageFormat.TIFF:
        early = read_exif(image)  # loading applies the orientation and drops it
    if image_format is ImageFormat.JPEG and sizes:
        thumbnails.draft(image, max(sizes))
    image.load()
    # A frame may be larger than the screen in the header.
    _check_pixels(image.size, options)
    exif, gps = early or read_exif(image)
    orientation = read_orientation(image)
    if image_format is not ImageFormat.JPEG:
        width, height = image.size
    if orientation in _SIDEWAYS:
        width, height = height, width
    if image_format is ImageFormat.HEIC:
        exif = _with_original_orientation(exif, image)
    return ImageFacts(image_format, width, height, frames, exif, gps), image, orientation


def _with_original_orientation(exif: ExifFacts, image: Image.Image) -> ExifFacts:
    """Restore the EXIF orientation: the HEIF decoder applies it and moves it to `image.info`."""
    original = image.info.get("original_orientation")
    return replace(exif, orientation=original) if original in range(1, 9) else exif


def _was_too_large(structure: Structure, options: ImageOptions) -> bool:
    """Return whether a failure is lack of memory: the WebP decoder does not report the cause."""
    if structure.size is None:
        return False
    width, height = structure.size
    return width * height * _WEBP_BYTES_PER_PIXEL > options.child_memory_bytes


_SHORT: Final = ("truncated", "end of file", "end of stream", "not enough data", "premature")
_LARGE: Final = ("decompressed data too large", "too much memory used in text", "bomb")
_MEMORY: Final = ("out of memory", "memory allocation", "cannot allocate")


def _refusal(error: Exception) -> ImageRefused:
    """Classify a decoder error by its text, which is never passed on; Pillow has no types."""
    text = str(error).lower()
    if any(words in text for words in _MEMORY):
        return ImageRefused(
            RefusalReason.MEMORY, "Decoding needs more memory than a decoder may use."
        )
    if any(words in text for words in _LARGE):
        return ImageRefused(
            RefusalReason.BOMB, "The file unpacks into far more data than its picture needs."
        )
    if isinstance(error, EOFError) or any(words in text for words in _SHORT):
        return ImageRefused(RefusalReason.TRUNCATED, "The file ends before the picture does.")
    return ImageRefused(RefusalReason.CORRUPT, "The decoder cannot decode the file.")
