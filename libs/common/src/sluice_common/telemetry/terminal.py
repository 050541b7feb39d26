"""Text for terminals: foreign text must not control the one that shows it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

from structlog.typing import WrappedLogger

_LAYOUT: Final = frozenset("\n\t")
_MULTILINE_KEYS: Final = frozenset({"exception", "stack"})


def printable(text: str, *, multiline: bool = False) -> str:
    """Return the text with every control and format character escaped, as Python writes it.

    That includes C1 controls (one character may begin a sequence), bidirectional overrides,
    unpaired surrogates and, without `multiline`, line breaks: a name must not forge a line.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or (multiline and character in _LAYOUT)
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def escape_controls(
    logger: WrappedLogger, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Escape all text of an event, also in its keys and in what other objects have as their `repr`.

    For the console renderer, which writes text as it is. Tracebacks keep their lines.
    """
    return {
        printable(str(key)): _shown(value, multiline=key in _MULTILINE_KEYS)
        for key, value in event.items()
    }


class _Printable:
    """Stands for an object: the renderer shows its escaped `repr`, and quotes it no second time."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        return printable(repr(self._value))


def _shown(value: Any, *, multiline: bool) -> Any:
    if isinstance(value, str):
        return printable(value, multiline=multiline)
    return _Printable(value)
