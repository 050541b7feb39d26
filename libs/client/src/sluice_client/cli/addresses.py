"""Server addresses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice_client.cli.exits import ConfigurationError
from sluice_client.errors import InvalidArgument
from sluice_client.logins.gateway_api import DEFAULT_GATEWAY
from sluice_client.targets import Target
from sluice_client.uploads.journal import home_dir

DEFAULT_SERVER = "127.0.0.1:50051"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of the two services; `repository` is None when it equals the intake's."""

    intake: str
    repository: str | None = None


def find_server(named: str | None, environment: Mapping[str, str]) -> Addresses:
    """Return the server's addresses.

    In order of precedence: `--server`, SLUICE_SERVER, the running standalone of this machine (its
    data directory holds `server.json`), the default address. SLUICE_REPOSITORY_SERVER sets another
    address for drives and nodes; without it both services share one address.
    """
    intake, repository = _named(named, environment)
    if intake is not None:
        return Addresses(intake, repository)
    running = _standalone(environment) or Addresses(DEFAULT_SERVER)
    return Addresses(running.intake, repository or running.repository)


def named_servers(named: str | None, environment: Mapping[str, str]) -> list[str]:
    """Return the addresses that the user named, by `--server` or the environment."""
    return [each for each in _named(named, environment) if each is not None]


def _named(named: str | None, environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return the named addresses of intake and repository."""
    repository = _checked(environment.get("SLUICE_REPOSITORY_SERVER"), "SLUICE_REPOSITORY_SERVER")
    intake = _checked(named, "--server") or _checked(
        environment.get("SLUICE_SERVER"), "SLUICE_SERVER"
    )
    return intake, repository


def find_gateway(named: str | None, environment: Mapping[str, str]) -> str:
    """Return the URL of the gateway.

    In order of precedence: `--gateway`, SLUICE_GATEWAY, the running standalone of this machine, the
    default address.
    """
    given = named or environment.get("SLUICE_GATEWAY")
    if given:
        return given
    for announced in _announced(environment):
        address = announced.get("gateway")
        if isinstance(address, str):
            return address if "://" in address else f"http://{address}"
    return DEFAULT_GATEWAY


def _checked(address: str | None, setting: str) -> str | None:
    """Return the address, or None when it is not set.

    Raise ConfigurationError for an invalid one.
    """
    if address is None:
        return None
    address = address.strip()
    try:
        Target.parse(address)
    except InvalidArgument as error:
        raise ConfigurationError(f"{setting} is not valid: {error.message}") from None
    plain = address.partition("://")[2] if "://" in address else address
    if address.startswith("unix:") and len(address) > len("unix:"):
        return address
    host, separator, port = plain.rstrip("/").rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigurationError(
            f"{setting} is not valid: {address!r} is not an address; write host:port, for example"
            f" {DEFAULT_SERVER}"
        )
    return address


def _standalone(environment: Mapping[str, str]) -> Addresses | None:
    """Return the addresses announced by this user's standalone while its process is alive."""
    for announced in _announced(environment):
        intake, repository = announced.get("intake"), announced.get("repository")
        if isinstance(intake, str):
            return Addresses(intake, repository if isinstance(repository, str) else None)
    return None


def _announced(environment: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """Yield what running standalones of this user announce."""
    for path in _announcements(environment):
        try:
            announced = json.loads(path.read_text(encoding="utf-8"))
            is_alive = _alive(int(announced["pid"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # The file is missing or incomplete: no standalone is running.
            continue
        if is_alive:
            yield announced


def _announcements(environment: Mapping[str, str]) -> list[Path]:
    places = []
    if environment.get("SLUICE_DATA_DIR"):
        places.append(Path(environment["SLUICE_DATA_DIR"]))
    share, home = environment.get("XDG_DATA_HOME"), home_dir()
    if share:
        places.append(Path(share) / "sluice")
    elif home is not None:
        places.append(home / ".local" / "share" / "sluice")
    return [place / "server.json" for place in places]


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
