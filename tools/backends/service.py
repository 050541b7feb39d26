"""Interface of a server for the supervisor."""

from __future__ import annotations

import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final
from zlib import crc32

from tools.backends.ports import PortPicker

if TYPE_CHECKING:
    from tools.backends.server_choice import Choice
    from tools.backends.tls import ServerTls

# sun_path holds 108 bytes with the final zero; 104 on the BSDs.
MAX_SOCKET_PATH: Final = 103

Facts = dict[str, str]
"""Facts of a running service, for tests and people: its entry in services.json."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server that is installed and whose data directory is prepared."""

    command: list[str]
    ports: dict[str, int]
    facts: Facts
    environment: dict[str, str] = field(default_factory=dict)


class Service(ABC):
    """One server in a separate directory: data, log, configuration, secrets."""

    name: ClassVar[str]
    choice: ClassVar[Choice | None] = None
    """Environment variable that selects one of several servers, if there are several."""
    start_seconds: ClassVar[float] = 60.0
    stop_seconds: ClassVar[float] = 15.0

    def __init__(self, home: Path, tls: ServerTls | None = None) -> None:
        self.home = home
        self.tls = tls
        """Files of a server that is started with TLS alone; None for one without TLS."""

    @property
    def log(self) -> Path:
        return self.home / "server.log"

    @abstractmethod
    def prepare(self, ports: PortPicker, before: Mapping[str, int]) -> Launch:
        """Install what is missing and prepare the data directory. Raise `ServiceError`.

        `before` are the ports of the last start: reusing them lets clients find the server again,
        and some servers write their address into their data.
        """

    @abstractmethod
    def confirm(self, facts: Facts) -> Facts:
        """Query the server once, as a client does. Return the facts with its answers.

        Create the database or bucket that all clients expect. Raise `NotReadyError` while the
        server does not answer.
        """

    def leftovers(self, ports: Mapping[str, int]) -> list[Path]:
        """Return files outside the home that the server does not delete when it stops."""
        return []

    def secret(self) -> str:
        """Return the password of this state directory, generated on first use."""
        path = self.home / "secret"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(16), encoding="utf-8")
        return path.read_text(encoding="utf-8")

    def socket_path(self, name: str) -> Path:
        """Return a path for a Unix socket of this server."""
        return socket_path(self.home, name)


def socket_path(home: Path, name: str) -> Path:
    """Return a path for a Unix socket; in the temporary directory when the path in `home` is too
    long.
    """
    path = home / name
    if len(str(path)) <= MAX_SOCKET_PATH:
        return path
    return Path(tempfile.gettempdir()) / f"sluice-{crc32(str(path).encode()):08x}.sock"
