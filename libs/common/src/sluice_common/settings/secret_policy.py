"""Policy of secrets in loaded settings: where they may stand, and how strong they must be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, SecretStr

from sluice_common.settings.secret_files import secret_settings
from sluice_common.settings.secret_strength import weakness
from sluice_common.settings.secret_types import hidden_values, judged_values
from sluice_core.configuration import ConfigurationError

_CREDENTIALS: Final = re.compile(r"://.*@|^[^@]*:[^@]*@", re.DOTALL)


def secrets_of(settings: BaseModel, prefix: str) -> frozenset[str]:
    """Return the texts that must appear in no output of the process."""
    return frozenset(
        text for _, secret in _given(settings, prefix) for text in hidden_values(secret)
    )


def check_strength(settings: BaseModel, prefix: str) -> None:
    """Raise `ConfigurationError` in one line that names every weak secret, without its value."""
    weak = [
        f"{name}: the secret {why}"
        for name, secret in _given(settings, prefix)
        for user, value in judged_values(secret)
        if (why := weakness(value, user))
    ]
    if weak:
        raise ConfigurationError(
            f"{'; '.join(weak)}; a server that others can reach needs random secrets: change it, or"
            " set SLUICE_ALLOW_INSECURE=true when the network itself keeps strangers out"
        )


def check_plain_settings(settings: BaseModel, prefix: str) -> None:
    """Raise `ConfigurationError` for a password in a setting that is not secret.

    Such a setting is shown, and clients quote it in their errors.
    """
    for name, value in _texts(settings, prefix):
        if _CREDENTIALS.search(value):
            raise ConfigurationError(
                f"{name}: must not contain a user or a password; remove them and use the settings"
                " for credentials"
            )


def _given(settings: BaseModel, prefix: str) -> Iterator[tuple[str, SecretStr]]:
    for setting in secret_settings(type(settings), prefix):
        value = setting.value_in(settings)
        if value is not None:
            yield setting.name, value


def _texts(model: BaseModel, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of every plain text setting."""
    for key in type(model).model_fields:
        value, name = getattr(model, key), f"{prefix}{key}".upper()
        if isinstance(value, BaseModel):
            yield from _texts(value, f"{name}__")
        elif isinstance(value, str):
            yield name, value
