"""The effective settings for people: secrets masked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, SecretStr

PREFIX: Final = "SLUICE_"
MASKED: Final = "********"


def shown_settings(settings: BaseModel) -> str:
    """The effective settings, one `NAME=value` a line, secrets masked."""
    return "\n".join(f"{name}={value}" for name, value in _flat(PREFIX, settings))


def _flat(prefix: str, model: BaseModel) -> Iterator[tuple[str, str]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _flat(f"{prefix}{name.upper()}__", value)
        else:
            yield prefix + name.upper(), _shown(value)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return MASKED
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if "://" in text and "@" in text:
        scheme, _, rest = text.partition("://")
        return f"{scheme}://{MASKED}@{rest.rpartition('@')[2]}"
    return text
