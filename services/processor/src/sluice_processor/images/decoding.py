"""One picture: from a descriptor to facts and thumbnails. Runs in a child (`children/main.py`)."""

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
from sluice_processor.images.avif import complains_of_exif, without_exif
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
from sluice_processor.images.repair import MAX_PROFILE_BYTES, Mended, mend
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
"""What of Pillow may try; what it was not sniffed as, a file is not tried as."""

_LOADED: Final = (
    AvifImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
"""All that `_PLUGINS` names, imported before the first picture comes."""

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
"""What Pillow and its plugins raise about bytes; all but the defects of this process itself."""

_WEBP_BYTES_PER_PIXEL: Final = 12
"""Two canvases of the decoder and the picture itself."""
_SAMPLE_PIXELS: Final = 50_000_000
_SAMPLE_SIDE: Final = 4096
_SAMPLE_ROWS: Final = 64
_DNG_VERSION: Final = 50706
_SUBFILE_TYPE: Final = 254
_REDUCED: Final = 1
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})


def prepare() -> None:
    """Set up the decoders, once in a process: one thread each, nothing lenient."""
    pi_heif.register_heif_opener(
        decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
    )
    accept_utf8_fields()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # Bounds colour profiles too. All texts of a picture together stay within MAX_TEXT_MEMORY.
    PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE_BYTES
    Image.MAX_IMAGE_PIXELS = None  # ours is checked before a pixel is decoded
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.preinit()
    warnings.simplefilter("ignore")  # of broken metadata; nobody reads a child's output


def process_image(fd: int, options: ImageOptions, sizes: Sequence[int]) -> ProcessedImage:
    """Decode the picture behind `fd` and make a thumbnail for each of `sizes`.

    A file that its decoder refuses is put together without its damage and tried again: only
    missing pixels are a reason to refuse it.

    Raises `ImageRefused` for every file that cannot be shown, TRUNCATED for one that is cut,
    whatever its decoder stumbled over, and `MemoryError`.
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
                if refused.reason not in _MENDABLE:
                    raise
                first = refused
        for mended in mend(file, image_format):
            try:
                image = job.decode(mended.file, damaged=True)
            except ImageRefused as refused:
                if refused.reason not in _MENDABLE:
                    raise  # a bomb, too many pixels, too little memory: more than damage
                continue
            if job.is_whole(mended):
                return image
        raise _truncated() if structure.cut else first


_NEEDS_AN_END: Final = frozenset({ImageFormat.JPEG, ImageFormat.WEBP})
"""Formats whose decoder takes what follows for data, or reads nothing at all, without one."""
_MENDABLE: Final = frozenset({RefusalReason.TRUNCATED, RefusalReason.CORRUPT})


def _truncated() -> ImageRefused:
    return ImageRefused(RefusalReason.TRUNCATED, "The file ends before the picture does.")


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be made of one file, in whatever form it is decoded."""

    image_format: ImageFormat
    structure: Structure
    options: ImageOptions
    sizes: Sequence[int]

    def decode(self, file: io.BufferedReader, *, damaged: bool) -> ProcessedImage:
        """Raise `ImageRefused`, and `MemoryError`."""
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

    def is_whole(self, mended: Mended) -> bool:
        """Whether no pixel depends on what stands behind the data of the picture."""
        if mended.witness is None:
            return True
        pixels = self._sample(mended.file)
        if pixels != self._sample(mended.witness):
            return False
        return not mended.counters or any(pixels != self._sample(one) for one in mended.counters)

    def _sample(self, file: io.BufferedReader) -> bytes:
        """Return a digest of the pixels; of a very large picture's, as a thumbnail needs them."""
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
            raise  # the latter is ours: a confined child needs a file that is no module
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
            f"{found.media_type or 'Bytes of no known type'}: not a format that is shown.",
        )
    return found.format


def _opened(
    file: io.BufferedReader, image_format: ImageFormat, options: ImageOptions
) -> Image.Image:
    file.seek(0)
    try:
        image = Image.open(file, formats=_PLUGINS[image_format])
    except ValueError as error:
        if image_format is not ImageFormat.AVIF or not complains_of_exif(error):
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
    """Raw photos are TIFF inside, beginning with a small preview that is not the picture."""
    tags = image.getexif()
    subfile = tags.get(_SUBFILE_TYPE)
    if _DNG_VERSION in tags or (isinstance(subfile, int) and subfile & _REDUCED):
        raise ImageRefused(
            RefusalReason.UNSUPPORTED_FORMAT,
            "A raw photo in TIFF: not a format that is shown.",
        )


def _frames(image: Image.Image, options: ImageOptions) -> int:
    """Of what the structure does not tell. The pictures of one JPEG (MPO) are one photo."""
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
    """Facts, pixels, and the orientation that the pixels still need."""
    width, height = image.size
    early = None
    if image_format is ImageFormat.TIFF:
        early = read_exif(image)  # loading turns the pixels and drops the orientation
    if image_format is ImageFormat.JPEG and sizes:
        thumbnails.draft(image, max(sizes))
    image.load()
    _check_pixels(
        image.size, options
    )  # a frame may be larger than the screen that the header tells
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
    """The HEIF decoder turns the pixels itself and notes what the EXIF had said."""
    original = image.info.get("original_orientation")
    return replace(exif, orientation=original) if original in range(1, 9) else exif


def _was_too_large(structure: Structure, options: ImageOptions) -> bool:
    """The WebP decoder does not say that it had no memory, only that it did not work."""
    if structure.size is None:
        return False
    width, height = structure.size
    return width * height * _WEBP_BYTES_PER_PIXEL > options.child_memory_bytes


_SHORT: Final = ("truncated", "end of file", "end of stream", "not enough data", "premature")
_LARGE: Final = ("decompressed data too large", "too much memory used in text", "bomb")
_MEMORY: Final = ("out of memory", "memory allocation", "cannot allocate")


def _refusal(error: Exception) -> ImageRefused:
    """Pillow has no types for these; what it says is read here and never passed on."""
    said = str(error).lower()
    if any(words in said for words in _MEMORY):
        return ImageRefused(RefusalReason.MEMORY, "Decoding needs more memory than there may be.")
    if any(words in said for words in _LARGE):
        return ImageRefused(RefusalReason.BOMB, "The file unpacks into far more than it shows.")
    if isinstance(error, EOFError) or any(words in said for words in _SHORT):
        return ImageRefused(RefusalReason.TRUNCATED, "The file ends before the picture does.")
    return ImageRefused(RefusalReason.CORRUPT, "The decoder cannot make a picture of it.")
