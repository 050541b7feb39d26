"""Set-up of Prometheus and Alertmanager: found, installed where that is allowed, else reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.backends import monitoring, peers, programs
from tools.backends.errors import ServiceError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Make every program missing until its package is installed; return the packages."""
    packages: list[str] = []

    def find(*names: str) -> str | None:
        package = "prometheus" if names[0].startswith("prom") else "prometheus-alertmanager"
        return str(tmp_path / names[0]) if package in packages else None

    monkeypatch.setattr(monitoring, "find_program", find)
    monkeypatch.setattr(
        monitoring, "install_package", lambda service, package: packages.append(package)
    )
    return packages


def test_missing_packages_are_installed_once_each(installed: list[str], tmp_path: Path) -> None:
    assert monitoring.get_monitoring().split() == [
        str(tmp_path / name) for name in ("prometheus", "promtool", "alertmanager", "amtool")
    ]
    assert installed == ["prometheus", "prometheus-alertmanager"]


def test_missing_program_is_an_error_without_install(installed: list[str]) -> None:
    with pytest.raises(ServiceError, match="no amtool on this machine: install prometheus-alert"):
        monitoring.need_program("amtool")
    assert installed == []


def test_alertmanager_has_two_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian's program is named after its package."""
    program = tmp_path / "prometheus-alertmanager"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "SYSTEM_FOLDERS", ())
    assert monitoring.need_program("alertmanager") == str(program)


def test_missing_programs_fail_in_ci_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(programs, "may_install", lambda: False)
    monkeypatch.setattr(monitoring, "find_program", lambda *names: None)
    monkeypatch.setattr(peers, "CHEAP", ("monitoring",))
    monkeypatch.delenv("SLUICE_REQUIRE_SERVICES", raising=False)
    peers.get([])
    assert "left out: there is no prometheus" in capsys.readouterr().err
    monkeypatch.setenv("SLUICE_REQUIRE_SERVICES", "1")
    with pytest.raises(ServiceError, match="monitoring: there is no prometheus"):
        peers.get([])
