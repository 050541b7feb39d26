"""Display of the effective settings with masked secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import BaseModel, SecretStr

from sluice_common.settings.secret_files import files_of_secrets
from sluice_common.settings.secret_types import MASKED, SecretUrl

PREFIX: Final = "SLUICE_"


def format_settings(settings: BaseModel, environment: Mapping[str, str | None] = os.environ) -> str:
    """Return the effective settings, one `NAME=value` per line, with masked secrets.

    Args:
        environment: where they were read from; it names the files of secrets, which are shown in
            place of the values.
    """
    files = {
        setting.name: f"{setting.file_name}={file}"
        for setting, file in files_of_secrets(type(settings), PREFIX, environment).items()
    }
    return "\n".join(files.get(name, f"{name}={value}") for name, value in _flat(PREFIX, settings))


def setting_values(settings: BaseModel) -> dict[str, str]:
    """Return the effective settings by name, as text, with masked secrets."""
    return dict(_flat(PREFIX, settings))


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
    if isinstance(value, SecretStr) and not isinstance(value, SecretUrl):
        return MASKED
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset):
        return ",".join(sorted(map(str, value)))
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    # A URL with a password is a `SecretUrl`, which shows itself without it.
    return str(value)
