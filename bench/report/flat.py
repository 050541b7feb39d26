"""Nested figures as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

_LONGEST_LIST = 8


def flatten(figures: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield `{"a": {"b": 1.25}}` as ("a.b", "1.25"); long lists are counted, not listed."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", text(value)


def text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) > _LONGEST_LIST:
            return f"{len(value)} values"
        return ", ".join(map(text, value))
    return str(value)
