"""Browsers of the distribution, which the tests of the panel drive."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from glob import glob
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.programs import find_program, install_package, run_step

VERSION_SECONDS: Final = 60.0
FONTS: Final = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
"""Pages are drawn in this family, so that screenshots are the same everywhere."""
_MINI_BROWSERS: Final = ("/usr/lib/*/webkit2gtk-4.*/MiniBrowser", "/usr/libexec/webkit2gtk-4.*/*")


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the distribution: how to find it, and the package that has it."""

    find: Callable[[], str | None]
    package: str


def _mini_browser() -> str | None:
    """Return the newest MiniBrowser, which the libraries of WebKitGTK bring."""
    found = [path for pattern in _MINI_BROWSERS for path in sorted(glob(pattern))]
    return next((path for path in reversed(found) if path.endswith("/MiniBrowser")), None)


def _firefox() -> str | None:
    """Return Firefox, but no snap: it cannot read profiles in temporary directories."""
    found = find_program("firefox-esr", "firefox")
    return None if found is None or "/snap/" in os.path.realpath(found) else found


PROGRAMS: Final = {
    "chromium": Program(
        lambda: find_program("chromium", "google-chrome", "google-chrome-stable"), "chromium"
    ),
    "firefox": Program(_firefox, "firefox-esr"),
    "webkit-driver": Program(lambda: find_program("WebKitWebDriver"), "webkit2gtk-driver"),
    "webkit": Program(_mini_browser, "webkit2gtk-driver"),
    "xvfb": Program(lambda: find_program("Xvfb"), "xvfb"),
    "fonts": Program(lambda: FONTS if os.path.exists(FONTS) else None, "fonts-dejavu-core"),
}


def need_browser(name: str, *, install: bool = False) -> str:
    """Return the path of one of `PROGRAMS`, installing it where that is allowed.

    Raise `ServiceError` when it is missing.
    """
    program = PROGRAMS[name]
    found = program.find()
    if found is None and install:
        install_package("browsers", program.package)
        found = program.find()
    if found is None:
        raise ServiceError(f"there is no {name} on this machine: install {program.package}")
    return found


def get_browsers() -> str:
    """Install what is missing of all; return where they are. Raise `ServiceError`."""
    found = {name: need_browser(name, install=True) for name in PROGRAMS}
    return " ".join(found[name] for name in ("chromium", "firefox", "webkit"))


def described() -> str:
    """Return the versions of the browsers on this machine, in one line."""
    versions = []
    for name in ("chromium", "firefox"):
        try:
            versions.append(run_step([need_browser(name), "--version"], VERSION_SECONDS).strip())
        except ServiceError:
            versions.append(f"no {name}")
    webkit = PROGRAMS["webkit"].find()
    return ", ".join([*versions, "WebKitGTK" if webkit else "no WebKitGTK"])
