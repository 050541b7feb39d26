"""Secret settings from files: `<NAME>_FILE` names the file with the value of `<NAME>`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from sluice_core.configuration import ConfigurationError

MAX_SECRET_BYTES: Final = 64 * 1024
_SUFFIX: Final = "_FILE"


@dataclass(frozen=True, slots=True)
class SecretSetting:
    """One secret setting: the variable, and the way to its field in the model."""

    name: str
    path: tuple[str, ...]
    kind: type[SecretStr]

    @property
    def file_name(self) -> str:
        """The variable that names the file."""
        return self.name + _SUFFIX

    def value_in(self, settings: BaseModel) -> SecretStr | None:
        """Return the value in loaded settings."""
        value: Any = settings
        for key in self.path:
            value = getattr(value, key)
        assert value is None or isinstance(value, SecretStr)
        return value


def secret_settings(
    model: type[BaseModel], prefix: str, path: tuple[str, ...] = ()
) -> Iterator[SecretSetting]:
    """Yield every secret setting of a model, those of nested groups included.

    Args:
        prefix: of the variables, such as `SLUICE_`.
        path: of `model` in the settings.
    """
    for key, field in model.model_fields.items():
        types = tuple(_types(field.annotation))
        for kind in types:
            if issubclass(kind, SecretStr):
                yield SecretSetting(f"{prefix}{key}".upper(), (*path, key), kind)
        for group in types:
            if issubclass(group, BaseModel):
                yield from secret_settings(group, f"{prefix}{key}__", (*path, key))


def files_of_secrets(
    model: type[BaseModel], prefix: str, environment: Mapping[str, str | None]
) -> Mapping[SecretSetting, str]:
    """Return the files that the environment names. Case does not matter, nor do empty values."""
    given = {name.upper(): value for name, value in environment.items() if value}
    return {
        setting: file
        for setting in secret_settings(model, prefix)
        if (file := given.get(setting.file_name)) is not None
    }


class SecretFiles(PydanticBaseSettingsSource):
    """Source of settings that reads secrets from files.

    It takes the names of the files out of the environment, because groups refuse unknown names, and
    has to come after it. Raise `ConfigurationError` in one line that names every unusable file by
    its setting: a secret may have been put where the name belongs.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], prefix: str, environment: EnvSettingsSource
    ) -> None:
        super().__init__(settings_cls)
        self._files = files_of_secrets(settings_cls, prefix, environment.env_vars)
        taken = {setting.file_name for setting in self._files}
        environment.env_vars = {
            name: value for name, value in environment.env_vars.items() if name.upper() not in taken
        }

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return no value: `__call__` builds all of them at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        errors = []
        for setting, file in self._files.items():
            if _has(self.current_state, setting.path):
                errors.append(f"{setting.name} and {setting.file_name} are both set: unset one")
                continue
            try:
                secret = read_secret(file)
            except ConfigurationError as error:
                errors.append(f"{setting.file_name}: {error}")
                continue
            group = values
            for key in setting.path[:-1]:
                group = group.setdefault(key, {})
            group[setting.path[-1]] = secret
        if errors:
            raise ConfigurationError("; ".join(errors))
        return values


def read_secret(file: str) -> str:
    """Return the text of a file without one newline at its end.

    Raise `ConfigurationError`, without the name, if the file cannot be read, is empty, larger than
    `MAX_SECRET_BYTES` or not UTF-8.
    """
    try:
        # Non-blocking, because opening a named pipe waits for its writer.
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(handle, "rb") as opened:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ConfigurationError("is not a regular file; name a file with the secret")
            content = opened.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        # Not the error itself, which quotes the name.
        why = error.strerror if isinstance(error, OSError) else "the name is not valid"
        raise ConfigurationError(
            f"the file cannot be read ({why}); correct its path or its permissions"
        ) from None
    if len(content) > MAX_SECRET_BYTES:
        raise ConfigurationError(
            f"the file is larger than {MAX_SECRET_BYTES} bytes; name a file with only the secret"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError("the file is not UTF-8 text; write the secret as text") from None
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text.strip():
        raise ConfigurationError("the file is empty; write the secret to it")
    return text


def _types(annotation: Any) -> Iterator[type]:
    """Yield the classes in an annotation, also those in unions and `Annotated`."""
    if isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from _types(argument)


def _has(state: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(state, Mapping) or key not in state:
            return False
        state = state[key]
    return True
