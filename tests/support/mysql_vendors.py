"""How a server of either vendor is set up and started: MariaDB, or MySQL proper.

SLUICE_SERVICES_MYSQL chooses: `mariadb` (the default) or `mysql`.
"""

from __future__ import annotations

import getpass
import os
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final

from support.redis_server import binary

CHOICE: Final = "SLUICE_SERVICES_MYSQL"
_NO_FILES: Final = ("--secure-file-priv=NULL",)
"""Packages configure a folder that only their own installation creates."""


class Vendor(ABC):
    is_mariadb: ClassVar[bool]
    reload_tls: ClassVar[str]
    """Statement that reads the TLS files again."""

    @property
    @abstractmethod
    def server(self) -> str:
        """The server's program; without it the test skips, or fails in CI."""

    @abstractmethod
    def install(self, data: Path, scratch: Path) -> None:
        """Create the data directory of a server whose root has no password."""

    @abstractmethod
    def options(self) -> list[str]:
        """Return the options of this vendor's servers only."""


class MariaDb(Vendor):
    is_mariadb = True
    reload_tls = "FLUSH SSL"

    @property
    def server(self) -> str:
        return binary("mariadbd")

    def install(self, data: Path, scratch: Path) -> None:
        command = [
            binary("mariadb-install-db"),
            *_common(data, scratch),
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def options(self) -> list[str]:
        # No syncs, of which a migration of an empty database asks for about a thousand. What was
        # written survives the process all the same. A later release may lack the deprecated one.
        unsynced = ("--debug-no-sync", "--sync-frm=0", "--loose-innodb-flush-method=nosync")
        return ["--innodb-log-file-size=16M", *unsynced]


class MySqlProper(Vendor):
    is_mariadb = False
    reload_tls = "ALTER INSTANCE RELOAD TLS"

    @property
    def server(self) -> str:
        return binary("mysqld")

    def install(self, data: Path, scratch: Path) -> None:
        command = [self.server, *_common(data, scratch), *_NO_FILES, "--initialize-insecure"]
        subprocess.run(command, check=True, capture_output=True)

    def options(self) -> list[str]:
        return [*_NO_FILES, "--innodb-redo-log-capacity=32M", "--mysqlx=OFF"]


def chosen_vendor() -> Vendor:
    """Return the vendor that SLUICE_SERVICES_MYSQL selects."""
    match os.environ.get(CHOICE, "mariadb"):
        case "mariadb":
            return MariaDb()
        case "mysql":
            return MySqlProper()
        case other:
            raise ValueError(f"{CHOICE}={other!r} names no known server; use mariadb or mysql")


def _common(data: Path, scratch: Path) -> list[str]:
    return [
        "--no-defaults",
        f"--datadir={data}",
        f"--tmpdir={scratch}",
        f"--user={getpass.getuser()}",
    ]
