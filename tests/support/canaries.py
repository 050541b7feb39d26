"""Canaries: a recognizable value in every secret setting, and the search for them in output."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from pydantic import SecretStr

from sluice_common.settings import PREFIX, SluiceSettings
from sluice_common.settings.secret_files import SecretSetting, secret_settings
from sluice_common.settings.secret_types import Headers, SecretUrl, UserPassword
from support.redis_server import free_port

SECRET_SETTINGS: Final = tuple(secret_settings(SluiceSettings, PREFIX))


@dataclass(frozen=True, slots=True)
class Canary:
    """One secret. `core` occurs in it and nowhere else, and no encoding of text changes it."""

    name: str
    core: str

    @property
    def secret(self) -> str:
        """The secret, with characters that URLs, JSON and Python escape."""
        return f"c{self.core}/\\+%"

    def is_in(self, output: bytes) -> bool:
        """Return whether the output contains the secret, as it is or in base64."""
        core = self.core.encode()
        # Without the first and the last group, which the neighbours of the secret change.
        shifted = (base64.b64encode(bytes(offset) + core)[4:-4] for offset in range(3))
        return core in output or any(each in output for each in shifted)


@dataclass(frozen=True, slots=True)
class Canaries:
    """A canary per secret setting, and the environment that plants them."""

    planted: Mapping[str, Canary]
    environment: Mapping[str, str]

    def leaks(self, output: bytes) -> list[str]:
        """Return the settings whose secret is in the output."""
        return [name for name, canary in self.planted.items() if canary.is_in(output)]


def new_canary(name: str) -> Canary:
    return Canary(name, secrets.token_hex(12))


def plant() -> Canaries:
    """Return a canary for each secret setting of the model; URLs name ports that nothing uses."""
    planted = {setting.name: new_canary(setting.name) for setting in SECRET_SETTINGS}
    return Canaries(
        planted,
        {
            setting.name: _value(setting, planted[setting.name].secret)
            for setting in SECRET_SETTINGS
        },
    )


def _value(setting: SecretSetting, secret: str) -> str:
    """Return a valid value of the setting that contains the secret."""
    if setting.kind is SecretUrl:
        scheme = _default(setting).partition("://")[0]
        return f"{scheme}://canary:{quote(secret, safe='')}@127.0.0.1:{free_port()}/0"
    if setting.kind is UserPassword:
        return f"canary:{secret}"
    if setting.kind is Headers:
        return f"authorization=Bearer {secret}"
    return secret


def _default(setting: SecretSetting) -> str:
    default = setting.value_in(SluiceSettings.model_construct())
    return default.get_secret_value() if isinstance(default, SecretStr) else "https://"
