"""Error translation for the openers of backends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sluice_core.configuration import ConfigurationError
from sluice_core.errors import SluiceError


@contextmanager
def as_configuration_error(setting: str) -> Iterator[None]:
    """Translate `SluiceError` to a `ConfigurationError` of one line that names the setting."""
    try:
        yield
    except SluiceError as error:
        raise ConfigurationError(f"{setting}: {error.operator_message}") from error
