"""A real MariaDB or MySQL server for tests: one per pytest process."""

from __future__ import annotations

import atexit
import getpass
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pymysql

from sluice_backends.sql.migrate import migrate
from sluice_backends.sql.schema import metadata
from support.certificates import Issued, TlsPaths, write_certificates
from support.mysql_vendors import chosen_vendor
from support.redis_server import free_port

_START_SECONDS = 60.0
PASSWORD = "s3cr3t/of the:tests"
USER = "sluice"
_NUMBERS = count(1)


class MysqlServer:
    """A temporary server with its own folder, on a free port.

    Its writes are fast and not safe against power loss: tests check what survives the crash of a
    client or of the server's process, not of the machine.
    """

    def __init__(self, folder: Path) -> None:
        self.vendor = chosen_vendor()
        self._folder = folder
        self._data = folder / "data"
        # A starting server removes the temporary tables of all servers that share its folder.
        self._scratch = folder / "tmp"
        self._socket = folder / "s"
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: str | None = None
        self.ca_file = folder / "ca.pem"
        self.port = free_port()

    def install(self) -> None:
        write_certificates(self._folder)
        self._scratch.mkdir()
        self.vendor.install(self._data, self._scratch)

    def start(self) -> None:
        """Start and wait until it answers; its port stays the same over restarts."""
        command = [
            self.vendor.server,
            "--no-defaults",
            f"--datadir={self._data}",
            f"--tmpdir={self._scratch}",
            f"--socket={self._socket}",
            f"--pid-file={self._folder / 'pid'}",
            f"--port={self.port}",
            f"--user={getpass.getuser()}",
            "--bind-address=127.0.0.1",
            f"--ssl-ca={self.ca_file}",
            f"--ssl-cert={self._folder / 'cert.pem'}",
            f"--ssl-key={self._folder / 'key.pem'}",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--performance-schema=off",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=48M",
            *self.vendor.options(),
            # Sessions must not depend on the server's own defaults.
            "--sql-mode=",
            "--default-time-zone=+05:30",
            "--character-set-server=latin1",
        ]
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(log.read_text())
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the server like a crash; no-op while it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def create_database(self) -> str:
        """Create an empty database of the tests' user and return its URL."""
        name = f"sluice_{next(_NUMBERS)}"
        self.run(
            f"CREATE DATABASE {name}",
            f"CREATE USER IF NOT EXISTS {USER} IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON {name}.* TO {USER}",
        )
        return self.url(name)

    def url(self, database: str, *, port: int = 0, password: str = PASSWORD) -> str:
        user = f"{USER}:{quote(password, safe='')}"
        return f"mysql+aiomysql://{user}@127.0.0.1:{port or self.port}/{database}"

    def run(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements as root and return the rows of the last one."""
        connection = pymysql.connect(
            unix_socket=str(self._socket),
            user="root",
            autocommit=True,
            ssl_disabled=True,  # which would load the system's certificates for each connection
        )
        rows: list[tuple[object, ...]] = []
        with closing(connection), connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
        return rows

    @contextmanager
    def showing(self, issued: Issued) -> Iterator[None]:
        """Show another certificate to new connections while the block runs."""
        paths = TlsPaths(self._folder)
        usual = Issued(paths.cert.read_bytes(), paths.key.read_bytes())
        try:
            issued.write(paths)
            self.run(self.vendor.reload_tls)
            yield
        finally:
            usual.write(paths)
            self.run(self.vendor.reload_tls)

    async def emptied_database(self) -> str:
        """Return the URL of a migrated database without rows.

        It is reused: creating a database costs a hundred times as much as emptying it.
        """
        if self._kept is None:
            url = self.create_database()
            await migrate(url)
            self._kept = url
        else:
            name = self._kept.rpartition("/")[2]
            tables = [table.name for table in reversed(metadata.sorted_tables)]
            self.run("BEGIN", *(f"DELETE FROM {name}.{table}" for table in tables), "COMMIT")
        return self._kept

    def _answers(self) -> bool:
        with closing(socket.socket(socket.AF_UNIX)) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def sessions(self) -> list[int]:
        """Return the ids of the tests' user's open sessions."""
        rows = self.run(f"SELECT id FROM information_schema.processlist WHERE user = '{USER}'")
        return [int(str(number)) for (number,) in rows]

    def lock_waits(self) -> int:
        """Return how many transactions wait for a row lock now."""
        # Not innodb_trx: that view is cached and stays stale when read often.
        ((_, waiting),) = self.run("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
        return int(str(waiting))


@cache
def shared_server() -> MysqlServer:
    """Return the server of this pytest process; skip, or fail in CI, if none can be started."""
    _ = chosen_vendor().server  # checked before anything is created
    # Not under pytest's folder: a socket path has at most about a hundred characters.
    folder = TemporaryDirectory(prefix="sluice-mysql-")
    server = MysqlServer(Path(folder.name))
    atexit.register(folder.cleanup)
    server.install()
    server.start()
    atexit.register(server.kill)  # runs before the folder's cleanup: last registered, first called
    return server
