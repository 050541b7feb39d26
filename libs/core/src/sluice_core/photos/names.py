"""File names, paths, content types and labels from clients. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

from sluice_core.errors import InvalidArgument

MAX_FILENAME_BYTES: Final = 255
MAX_LABEL_CHARACTERS: Final = 64
MAX_TAGS_OF_PHOTO: Final = 100

CONTENT_TYPES: Final = frozenset(
    {
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/gif",
        "image/heic",
        "image/heif",
        "image/avif",
        "image/tiff",
    }
)
"""Types that the processor decodes. What the bytes are is its business, not the client's word."""
CONTENT_TYPE_ALIASES: Final = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg"}
KNOWN_CONTENT_TYPES: Final = CONTENT_TYPES | CONTENT_TYPE_ALIASES.keys()
"""What clients may send, without regard to case."""

# An allow-list: letters, marks, numbers, punctuation, symbols and spaces. Not on it are control
# and formatting characters, among them the bidi overrides and isolates that make `gpj.exe` read
# as `exe.jpg`, separators of lines, unpaired surrogates and private use.
_ALLOWED_CATEGORIES: Final = frozenset("LMNPS")
_SPACE: Final = "Zs"
"""Not only the plain one: macOS writes U+202F into the names of its screenshots."""
_JOINERS: Final = frozenset("\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")
"""Formatting characters that Persian and Indic words and emoji need."""
_EMOJI: Final = range(0x1F000, 0x1FB00)
"""Also those that are newer than this Python's Unicode tables."""
_SEPARATORS: Final = frozenset("/\\")
_FIRST_NUMBER: Final = 2
_MAX_NFC_SHRINKAGE: Final = 4
"""NFC shortens text by a factor below four: longer text cannot fit, so skip normalizing it."""


def check_filename(filename: str, field: str = "filename") -> str:
    """Return the name in NFC: 1 to 255 bytes of UTF-8 without a path. BAD_FILENAME.

    Letters, marks, numbers, punctuation, symbols and spaces are allowed; `/`, `\\`, control
    characters and bidi overrides are not, nor a space at either end.
    """
    if len(filename) > _MAX_NFC_SHRINKAGE * MAX_FILENAME_BYTES:
        raise _bad_filename(f"has at most {MAX_FILENAME_BYTES} bytes of UTF-8", field)
    _check_characters(filename, field)
    name = unicodedata.normalize("NFC", filename)
    if not name or name != name.strip():
        raise _bad_filename("is not empty and has no space at its ends", field)
    if name in (".", "..") or not _SEPARATORS.isdisjoint(name):
        raise _bad_filename("has no path: no '/', no '\\', and is not '.' or '..'", field)
    if len(name.encode()) > MAX_FILENAME_BYTES:
        raise _bad_filename(f"has at most {MAX_FILENAME_BYTES} bytes of UTF-8", field)
    return name


def unique_filenames(filenames: Iterable[str]) -> list[str]:
    """Return checked names, made different from each other: `a.jpg`, `a (2).jpg`, …

    The first of equal names stays as it is. Names that differ in case only count as equal, since
    they would overwrite each other on many clients' disks. Long stems are cut to make room.
    """
    names = list(filenames)
    # Names as given come first: "a (2).jpg" of the client keeps its name.
    taken: set[str] = set()
    is_first: list[bool] = []
    for name in names:
        is_first.append(name.casefold() not in taken)
        taken.add(name.casefold())
    unique: list[str] = []
    numbers: dict[str, int] = {}
    for name, keep in zip(names, is_first, strict=True):
        candidate = name
        # Names that are cut to the same stem share a counter, so that no search is quadratic.
        stem = _numbered(name, _FIRST_NUMBER).casefold()
        while not keep and candidate.casefold() in taken:
            numbers[stem] = numbers.get(stem, _FIRST_NUMBER - 1) + 1
            candidate = _numbered(name, numbers[stem])
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique


def photo_path(job_id: str, filename: str) -> str:
    """Return the path of a photo's node: `{job}/{filename}`, with a name unique in the job."""
    return f"{job_id}/{filename}"


def check_content_type(content_type: str, field: str = "mimeType") -> str:
    """Return the content type of a photo, in its usual spelling. UNSUPPORTED_CONTENT_TYPE."""
    folded = content_type.lower()
    known = CONTENT_TYPE_ALIASES.get(folded, folded)
    if known not in CONTENT_TYPES:
        raise InvalidArgument(
            "UNSUPPORTED_CONTENT_TYPE",
            f"This type of file is not accepted; send one of {', '.join(sorted(CONTENT_TYPES))}.",
            field=field,
        )
    return known


def check_photo_size(size: int, maximum: int, field: str = "bytes") -> int:
    """Check for 1 to `maximum` bytes. BAD_PHOTO_SIZE."""
    if not 1 <= size <= maximum:
        raise InvalidArgument(
            "BAD_PHOTO_SIZE", f"A photo has 1 to {maximum} bytes; send a smaller one.", field=field
        )
    return size


def check_label(label: str, field: str = "tags") -> str:
    """Return the label of a tag in NFC, without spaces at its ends: 1 to 64 characters. BAD_TAG."""
    if len(label) > _MAX_NFC_SHRINKAGE * MAX_LABEL_CHARACTERS:
        raise _bad_label(field)
    text = unicodedata.normalize("NFC", label).strip() if _is_allowed(label) else ""
    if not 1 <= len(text) <= MAX_LABEL_CHARACTERS:
        raise _bad_label(field)
    return text


def search_key(text: str) -> str:
    """Return the form in which file names are searched: without regard to case."""
    return unicodedata.normalize("NFC", text.casefold())


def _numbered(name: str, number: int) -> str:
    """Return the name with a number before its extension, cut to the allowed length."""
    suffix = f" ({number})"
    stem, dot, extension = name.rpartition(".")
    if stem:
        suffix += dot + extension
    else:
        stem = name
    if len(suffix.encode()) > MAX_FILENAME_BYTES // 2:  # an extension that is none
        stem, suffix = name, f" ({number})"
    room = MAX_FILENAME_BYTES - len(suffix.encode())
    # Cut between characters; a cut may leave a space at the end of the stem, which is inside.
    return stem.encode()[:room].decode(errors="ignore") + suffix


def _check_characters(filename: str, field: str) -> None:
    if not _is_allowed(filename):
        raise _bad_filename("has letters, numbers, punctuation and spaces only", field)


def _is_allowed(text: str) -> bool:
    if text.isascii() and text.isprintable():
        return True
    return all(_is_allowed_character(character) for character in text)


def _is_allowed_character(character: str) -> bool:
    category = unicodedata.category(character)
    return (
        category[0] in _ALLOWED_CATEGORIES
        or category == _SPACE
        or character in _JOINERS
        or ord(character) in _EMOJI
    )


def _bad_filename(rule: str, field: str) -> InvalidArgument:
    return InvalidArgument("BAD_FILENAME", f"A file name {rule}; rename the file.", field=field)


def _bad_label(field: str) -> InvalidArgument:
    return InvalidArgument(
        "BAD_TAG",
        f"A tag has 1 to {MAX_LABEL_CHARACTERS} letters, numbers, punctuation or spaces.",
        field=field,
    )
