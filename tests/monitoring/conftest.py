"""Fixtures of the tests that run Prometheus; `make check-monitoring` runs them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.missing import missing
from tools.backends.errors import ServiceError
from tools.backends.monitoring import need_program


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Return a function that finds a program, or skips the test; in CI it fails instead."""

    def find(name: str) -> str:
        try:
            return need_program(name)
        except ServiceError as error:
            missing(f"{error}, or run `make peers PEERS=monitoring` as root")

    return find


@pytest.fixture
def prometheus_programs(program: Callable[[str], str]) -> None:
    """Need Prometheus and Alertmanager."""
    program("prometheus")
    program("alertmanager")
