"""MariaDB, or MySQL where only that is installed or SLUICE_SERVICES_MYSQL requests it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote, unquote, urlsplit

import pymysql

from tools.backends.errors import NotReadyError, ServiceError
from tools.backends.ports import PortPicker
from tools.backends.programs import find_program, need_program, run_step
from tools.backends.progress import say
from tools.backends.service import Facts, Launch, Service
from tools.backends.tls import ServerTls, client_context

ANSWER_SECONDS: Final = 3
INITIALISE_SECONDS: Final = 120.0
DATABASE: Final = "sluice"
CHOICE: Final = "SLUICE_SERVICES_MYSQL"


class MySql(Service):
    name: ClassVar[str] = "mysql"

    def prepare(self, ports: PortPicker, before: Mapping[str, int]) -> Launch:
        server = _choose()
        # The two cannot read each other's data.
        data = self.home / ("data-mysql" if _is_mysql(server) else "data")
        self._scratch.mkdir(exist_ok=True)
        if not data.exists():
            say(self.name, "making the data directory (once)")
            self._initialise(server, data)
        password = self.secret()
        port = ports.pick("mysql", before=before)["mysql"]
        command = [
            server,
            "--no-defaults",
            *run_as(),
            f"--datadir={data}",
            f"--tmpdir={self._scratch}",
            "--bind-address=127.0.0.1",
            f"--port={port}",
            f"--socket={self.socket_path('s.sock')}",
            f"--pid-file={self.home / 'server.pid'}",
            f"--init-file={self._init_file(password)}",
            # Accounts are then matched by address, and no start waits for a name server.
            "--skip-name-resolve",
            "--skip-log-bin",
            *_own_options(server),
            *_tls_options(self.tls),
            "--loose-mysqlx=OFF",
            "--loose-performance-schema=OFF",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2",
            "--max-connections=300",
            "--character-set-server=utf8mb4",
        ]
        url = f"mysql+aiomysql://root:{password}@127.0.0.1:{port}/{DATABASE}"
        if self.tls is not None:
            url = f"{url}?ssl_ca={quote(str(self.tls.paths.ca))}"
        return Launch(command, {"mysql": port}, {"url": url})

    @property
    def _scratch(self) -> Path:
        """Return a separate folder: a starting server deletes the temporary tables of all servers
        that share it, including those of one that is initializing its data directory.
        """
        return self.home / "tmp"

    def confirm(self, facts: Facts) -> Facts:
        try:
            connection = connect(facts)
        except (pymysql.Error, OSError) as error:
            raise NotReadyError(str(error)) from error
        with connection, connection.cursor() as cursor:
            # MariaDB's greeting reports an old MySQL version; the statement does not.
            cursor.execute("SELECT VERSION()")
            row = cursor.fetchone()
        return {**facts, "version": str(row[0]) if row else "unknown"}

    def _initialise(self, server: str, data: Path) -> None:
        # In a temporary place first: a directory of the final name is always complete.
        unfinished = self.home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        if not _is_mysql(server):
            command = [
                need_program(
                    self.name, ["mariadb-install-db", "mysql_install_db"], "mariadb-server"
                ),
                "--no-defaults",
                *run_as(),
                f"--datadir={unfinished}",
                f"--tmpdir={self._scratch}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ]
        else:
            command = [
                server,
                "--no-defaults",
                *run_as(),
                "--initialize-insecure",
                f"--datadir={unfinished}",
                f"--tmpdir={self._scratch}",
                *_own_options(server),
            ]
        run_step(command, INITIALISE_SECONDS)
        unfinished.rename(data)

    def _init_file(self, password: str) -> Path:
        """Return statements that the server runs at every start; each is repeatable."""
        path = self.home / "init.sql"
        path.touch(mode=0o600)
        # One statement per line, as the servers require; the password is hexadecimal.
        path.write_text(
            "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\n"
            f"ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
            "GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"
            f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;\n",
            encoding="utf-8",
        )
        return path


def connect(facts: Facts) -> pymysql.Connection[Any]:
    """Connect to the server, verifying it if it uses TLS. Raise `pymysql.Error` or `OSError`."""
    url = urlsplit(facts["url"])
    return pymysql.connect(
        host=url.hostname,
        port=url.port or 0,
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        database=url.path.lstrip("/"),
        connect_timeout=ANSWER_SECONDS,
        read_timeout=ANSWER_SECONDS,
        ssl=client_context(facts),
    )


def _choose() -> str:
    """Return the program of the requested server; MariaDB's by default."""
    requested = os.environ.get(CHOICE, "")
    if requested not in ("", "mariadb", "mysql"):
        raise ServiceError(f"{CHOICE} is {requested!r}: set it to mariadb or mysql, or unset it")
    if requested == "mysql":
        program = find_program("mysqld")
        if program is None or not _is_mysql(program):
            raise ServiceError(
                f"there is no mysqld of MySQL on the PATH: install it, or unset {CHOICE}"
            )
        return program
    names = ["mariadbd"] if requested == "mariadb" else ["mariadbd", "mysqld"]
    return need_program(MySql.name, names, "mariadb-server")


def _is_mysql(server: str) -> bool:
    """Return whether it is MySQL. MariaDB provides `mysqld` as well, and says so in its version."""
    return "mariadb" not in run_step([server, "--version"], ANSWER_SECONDS * 10).lower()


def _tls_options(tls: ServerTls | None) -> list[str]:
    if tls is None:
        return []
    return [
        f"--ssl-ca={tls.paths.ca}",
        f"--ssl-cert={tls.paths.cert}",
        f"--ssl-key={tls.paths.key}",
        "--require-secure-transport=ON",
    ]


def _own_options(server: str) -> list[str]:
    # A package may configure a folder that only its installation creates.
    return ["--secure-file-priv=NULL"] if _is_mysql(server) else []


def run_as() -> list[str]:
    """Return the option for root.

    The servers refuse to run as root without it; a container or a CI job often is root.
    """
    return ["--user=root"] if os.geteuid() == 0 else []
