"""Redis, persistent and with a limit, so that back-pressure can be seen."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import ClassVar, Final
from urllib.parse import urlsplit

from tools.backends.errors import NotReadyError
from tools.backends.installing import need_program
from tools.backends.ports import PortPicker
from tools.backends.service import Facts, Launch, Service

ANSWER_SECONDS: Final = 2.0
MAX_MEMORY: Final = "1gb"


class Redis(Service):
    name: ClassVar[str] = "redis"
    stop_seconds: ClassVar[float] = 5.0

    def prepare(self, ports: PortPicker, before: Mapping[str, int]) -> Launch:
        server = need_program(self.name, ["redis-server", "valkey-server"], "redis-server")
        data = self.home / "data"
        data.mkdir(exist_ok=True)
        port = ports.pick("redis", before=before)["redis"]
        options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(data),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory": MAX_MEMORY,
            # Sluice refuses a Redis that throws keys away (docs/protocol.md, rule 6).
            "maxmemory-policy": "noeviction",
        }
        command = [
            server,
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]
        return Launch(command, {"redis": port}, {"url": f"redis://127.0.0.1:{port}/0"})

    def confirm(self, facts: Facts) -> Facts:
        port = urlsplit(facts["url"]).port or 0
        try:
            with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) as connection:
                connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError as error:
            raise NotReadyError(str(error)) from error
        if not answer.startswith(b"+PONG"):
            # -LOADING while it reads its append-only file.
            raise NotReadyError(answer.split(b"\r\n", 1)[0].decode(errors="replace"))
        fields = dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)
        return {**facts, "version": fields.get("redis_version", "unknown")}
