"""Text for people: sizes, and names that may hold anything."""

from __future__ import annotations

import os

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(size: float) -> str:
    """A size with three digits or so, e.g. "1.5 MiB"."""
    for unit in _UNITS[:-1]:
        if size < 1000:
            break
        size /= 1024
    else:
        unit = _UNITS[-1]
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"


def count_text(count: int, one: str, many: str = "") -> str:
    """ "1 file", "2 files"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """The text on one line and harmless to a terminal: file names may hold escape sequences."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in encodable(text)
    )


def encodable(name: str) -> str:
    """A file name as text that JSON and terminals can take: bytes that are no UTF-8 as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
