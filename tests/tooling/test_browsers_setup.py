"""Set-up of the browsers: found, installed where that is allowed, else reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tools.backends import browsers, peers, programs
from tools.backends.errors import ServiceError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Make Xvfb missing until its package is installed; return the installed packages."""
    packages: list[str] = []

    def install(service: str, package: str) -> None:
        assert service == "browsers"
        packages.append(package)

    missing = replace(
        browsers.PROGRAMS["xvfb"], find=lambda: str(tmp_path) if "xvfb" in packages else None
    )
    monkeypatch.setitem(browsers.PROGRAMS, "xvfb", missing)
    monkeypatch.setattr(browsers, "install_package", install)
    return packages


def test_missing_browser_is_installed(installed: list[str], tmp_path: Path) -> None:
    assert browsers.need_browser("xvfb", install=True) == str(tmp_path)
    assert browsers.need_browser("xvfb", install=True) == str(tmp_path)
    assert installed == ["xvfb"]


def test_missing_browser_is_an_error_without_install(installed: list[str]) -> None:
    with pytest.raises(ServiceError, match="no xvfb on this machine: install xvfb"):
        browsers.need_browser("xvfb")
    assert installed == []


def test_missing_browser_fails_in_ci_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without root nothing is installed; a laptop goes on, CI does not."""
    monkeypatch.setattr(programs, "may_install", lambda: False)
    lost = replace(browsers.PROGRAMS["chromium"], find=lambda: None)
    monkeypatch.setitem(browsers.PROGRAMS, "chromium", lost)
    monkeypatch.setattr(peers, "CHEAP", ("browsers",))
    monkeypatch.delenv("SLUICE_REQUIRE_SERVICES", raising=False)
    peers.get([])
    assert "left out: there is no chromium" in capsys.readouterr().err
    for names, required in ((["browsers"], "0"), ([], "1")):
        monkeypatch.setenv("SLUICE_REQUIRE_SERVICES", required)
        with pytest.raises(ServiceError, match="install chromium"):
            peers.get(names)
