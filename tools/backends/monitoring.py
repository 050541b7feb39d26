"""Prometheus and Alertmanager of the distribution, which `make check-monitoring` runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.programs import find_program, install_package


@dataclass(frozen=True, slots=True)
class Program:
    """A program of the distribution: its names, and the package that has it."""

    names: tuple[str, ...]
    package: str


PROGRAMS: Final = {
    "prometheus": Program(("prometheus",), "prometheus"),
    "promtool": Program(("promtool",), "prometheus"),
    "alertmanager": Program(("alertmanager", "prometheus-alertmanager"), "prometheus-alertmanager"),
    "amtool": Program(("amtool",), "prometheus-alertmanager"),
}


def need_program(name: str, *, install: bool = False) -> str:
    """Return the path of one of `PROGRAMS`, installing it where that is allowed.

    Raise `ServiceError` when it is missing.
    """
    program = PROGRAMS[name]
    found = find_program(*program.names)
    if found is None and install:
        install_package("monitoring", program.package)
        found = find_program(*program.names)
    if found is None:
        raise ServiceError(f"there is no {name} on this machine: install {program.package}")
    return found


def get_monitoring() -> str:
    """Install what is missing; return where the programs are. Raise `ServiceError`."""
    return " ".join(need_program(name, install=True) for name in PROGRAMS)
