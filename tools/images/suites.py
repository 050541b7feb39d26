"""Test suites that need images."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from tools.backends.errors import ServiceError
from tools.images.compose import ROOT
from tools.images.engine import REQUIRED, Engine
from tools.images.mysqld import unpacked_mysqld

MYSQL_NEWEST: Final = "mysql:9.7"
"""In addition to the one of deploy/compose.yaml."""
MYSQL_SUITES: Final = ("tests/contract/catalogue", "tests/integration/mysql")


def run_container_suite(engine: Engine) -> None:
    """Run tests/containers; a missing requirement is a failure."""
    with engine.serving_api() as environment:
        _pytest(("tests/containers",), environment)


def run_mysql_suites(engine: Engine, image: str) -> None:
    """Run the catalogue's suites on the server of this image, which they start and kill."""
    with unpacked_mysqld(engine, image) as programs:
        path = os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])
        _pytest(MYSQL_SUITES, {"PATH": path, "SLUICE_SERVICES_MYSQL": "mysql"})


def _pytest(paths: tuple[str, ...], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *paths],
        cwd=ROOT,
        env={**os.environ, "SLUICE_REQUIRE_SERVICES": "1", REQUIRED: "1", **environment},
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"pytest {' '.join(paths)} ended with {done.returncode}")
