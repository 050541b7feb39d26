"""Text for people: sizes, and names with arbitrary characters."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(size: float) -> str:
    """Return a size with about three digits, e.g. "1.5 MiB"."""
    step = 0
    while size >= 1000 and step < len(_UNITS) - 1:
        size /= 1024
        step += 1
    return f"{size:.0f} B" if step == 0 else f"{size:.3g} {_UNITS[step]}"


def count_text(count: int, one: str, many: str = "") -> str:
    """Return e.g. "1 file" or "2 files"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """Return the text on one line without control characters: names may hold escape sequences."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in encodable(text)
    )


def encodable(name: str) -> str:
    """Return a name that JSON and terminals can encode: bytes that are not UTF-8 as \\xNN."""
    try:
        # Not os.fsencode: node names are UTF-8 in every locale.
        data = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = name.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")
