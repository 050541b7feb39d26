"""Display of the effective settings with masked secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, SecretStr

PREFIX: Final = "SLUICE_"
MASKED: Final = "********"


def format_settings(settings: BaseModel) -> str:
    """Return the effective settings, one `NAME=value` per line, with masked secrets."""
    return "\n".join(f"{name}={value}" for name, value in _flat(PREFIX, settings))


def _flat(prefix: str, model: BaseModel) -> Iterator[tuple[str, str]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _flat(f"{prefix}{name.upper()}__", value)
        else:
            yield prefix + name.upper(), _format_value(value)


def _format_value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return MASKED
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset):
        return ",".join(sorted(map(str, value)))
    text = str(value)
    if "://" in text and "@" in text:
        scheme, _, rest = text.partition("://")
        return f"{scheme}://{MASKED}@{rest.rpartition('@')[2]}"
    return text
