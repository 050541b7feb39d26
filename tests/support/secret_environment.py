"""Settings of a test from an environment, and the line with which they are refused."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from sluice_common.settings import PREFIX, load_settings
from sluice_core.configuration import ConfigurationError


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the settings of the machine."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def set_all(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def refusal() -> str:
    """Return the one line with which the settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "\n" not in str(caught.value)
    return str(caught.value)
