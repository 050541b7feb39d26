"""What opening any backend has in common: how its refusal is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sluice_core.configuration import ConfigurationError
from sluice_core.errors import SluiceError


@contextmanager
def as_configuration_error(setting: str) -> Iterator[None]:
    """Inside, a backend that cannot be used is a mistake in this setting, told in one line."""
    try:
        yield
    except SluiceError as error:
        raise ConfigurationError(f"{setting}: {error.operator_message}") from error
