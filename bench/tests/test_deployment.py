"""Combination of settings of each phase."""

from __future__ import annotations

import pytest

from bench.backends import MissingBackendError, setting
from bench.deployment import PHASES, combination, deployment
from sluice_common.settings import load_settings


@pytest.mark.parametrize("phase", PHASES)
def test_phase_is_the_row_of_that_name(phase: int) -> None:
    chosen = {
        name.removeprefix("SLUICE_").lower(): value for name, value in combination(phase).items()
    }
    assert load_settings(**chosen).supported_combination.name == f"phase {phase}"


def test_there_is_no_other_phase() -> None:
    with pytest.raises(ValueError, match="no phase 7"), deployment(7):
        pass


def test_service_that_is_nowhere_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("SLUICE_SERVICES_DIR", str(tmp_path_factory.mktemp("services")))
    monkeypatch.delenv("SLUICE_MYSQL__URL", raising=False)
    with pytest.raises(MissingBackendError, match="SLUICE_MYSQL__URL"):
        setting("SLUICE_MYSQL__URL")
    monkeypatch.setenv("SLUICE_MYSQL__URL", "mysql://somewhere/sluice")
    assert setting("SLUICE_MYSQL__URL") == "mysql://somewhere/sluice"
