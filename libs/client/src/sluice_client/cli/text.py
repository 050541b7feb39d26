"""Text for people: sizes, and names that may hold anything."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(size: float) -> str:
    """A size with three digits or so, e.g. "1.5 MiB"."""
    step = 0
    while size >= 1000 and step < len(_UNITS) - 1:
        size /= 1024
        step += 1
    return f"{size:.0f} B" if step == 0 else f"{size:.3g} {_UNITS[step]}"


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
    try:
        # Not os.fsencode: names of nodes are UTF-8 in every locale.
        data = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = name.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")
