"""Redis or Valkey servers for tests, on free ports; SLUICE_SERVICES_REDIS chooses."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pytest
from redis import Redis

from support.missing import missing
from tools.backends.errors import ChoiceError, ServiceError
from tools.backends.redis import find_server

OPERATION_SECONDS = 30.0
"""Time limit of a client's operation: independent of load, and still detects a hanging server."""
_START_SECONDS = 60.0
_SLOTS = 16_384
_NOT_DURABLE = ("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction")


class RedisServer:
    """One Redis or Valkey; a context manager. Its port stays the same over restarts.

    Args:
        arguments: further settings, such as "--maxmemory", "8mb". The default is not durable.
        folder: working directory; a temporary one by default. A server that is restarted on the
            same folder loads its append-only file, if it is configured to write one.
    """

    def __init__(self, *arguments: str, folder: Path | None = None) -> None:
        _, self._binary = redis_program()
        self._arguments = arguments
        self._temporary = tempfile.TemporaryDirectory(prefix="sluice-redis-")
        self._folder = folder if folder is not None else Path(self._temporary.name)
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers."""
        command = [
            self._binary,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
            *_NOT_DURABLE,
            *self._arguments,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(self._log.read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server without notice, like a crash."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop the process: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def fill_up(self) -> None:
        """Leave no memory for any value.

        Filling it with values is not enough: a server reclaims memory from idle connections.
        """
        with self.client() as client:
            client.config_set("maxmemory", 1)

    def client(self) -> Redis:
        """Return a blocking client without a password, to inspect data. The caller closes it."""
        return Redis(port=self.port, socket_timeout=5, socket_connect_timeout=5)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def all_keys(self) -> list[str]:
        with self.client() as client:
            return sorted(key.decode() for key in client.scan_iter(count=1000))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._temporary.cleanup()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        if how is not signal.SIGKILL:
            self._process.send_signal(signal.SIGCONT)
        self._process.wait(10)
        self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"PING\r\n")
                reply = connection.recv(100)
        except OSError:
            return False
        # A server that requires a password is up too; one that is loading is not.
        return reply.startswith((b"+PONG", b"-NOAUTH"))


class RedisCluster:
    """A cluster of masters without replicas; a context manager."""

    def __init__(self, masters: int = 3) -> None:
        # Under load a slow server must not be marked as failed within the time of a test.
        cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "30000")
        self.servers = [RedisServer(*cluster) for _ in range(masters)]

    @property
    def url(self) -> str:
        return self.servers[0].url

    def start(self) -> None:
        """Start the servers, assign the slots and join the masters.

        Each master has its own config epoch; with equal ones they would have to resolve them first.
        """
        for server in self.servers:
            server.start()
        share = -(-_SLOTS // len(self.servers))
        for number, server in enumerate(self.servers):
            first, last = number * share, min((number + 1) * share, _SLOTS) - 1
            with server.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        with self.servers[0].client() as client:
            for server in self.servers[1:]:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port)
        deadline = time.monotonic() + _START_SECONDS
        while not all(_cluster_is_up(server) for server in self.servers):
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster does not come up")
            time.sleep(0.05)

    def flush(self) -> None:
        for server in self.servers:
            server.flush()

    def all_keys(self) -> list[str]:
        return sorted(key for server in self.servers for key in server.all_keys())

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        for server in self.servers:
            server.__exit__(None, None, None)


_Started = TypeVar("_Started", RedisServer, RedisCluster)


def _cluster_is_up(server: RedisServer) -> bool:
    with server.client() as client:
        info = client.execute_command("CLUSTER INFO")
    text = info if isinstance(info, str) else str(info)
    return "ok" in text.split("cluster_state", 1)[1][:8] if "cluster_state" in text else False


@cache
def shared_server() -> RedisServer:
    """Return the server of this test process; the user flushes it first."""
    return _until_exit(RedisServer())


@cache
def shared_cluster() -> RedisCluster:
    """Return the cluster of this test process; the user flushes it first."""
    return _until_exit(RedisCluster())


def _until_exit(started: _Started) -> _Started:
    started.__enter__()
    atexit.register(started.__exit__, None, None, None)
    return started


@contextmanager
def replicated(replicas: int = 1) -> Iterator[Sequence[RedisServer]]:
    """Run a master, first in the list, and its replicas, once they are in sync."""
    with RedisServer("--repl-diskless-sync-delay", "0") as master:
        followers = [
            RedisServer("--replicaof", f"127.0.0.1 {master.port}") for _ in range(replicas)
        ]
        try:
            for follower in followers:
                follower.start()
            deadline = time.monotonic() + _START_SECONDS
            with master.client() as client:
                # A write, because without one WAIT also counts a replica that is still loading.
                client.set("in-sync", 1)
                while int(str(client.wait(replicas, 100))) < replicas:
                    if time.monotonic() > deadline:
                        raise RuntimeError("the replicas do not get in sync")
                client.delete("in-sync")
            yield [master, *followers]
        finally:
            for follower in followers:
                follower.__exit__(None, None, None)


@cache
def redis_program() -> tuple[str, str]:
    """Return the server's kind and path.

    Without a server the test skips; it fails under SLUICE_REQUIRE_SERVICES=1 (CI), and always if
    the server was requested by name.
    """
    try:
        return find_server()
    except ChoiceError as error:
        pytest.fail(str(error))
    except ServiceError as error:
        missing(str(error))


def binary(name: str) -> str:
    """Return the path of a program; without it the test skips, or fails in CI."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not on PATH; `make services-up` installs it where it may")
    return found


_PORTS = range(11_000, 22_000)
_used_ports: set[int] = set()


def free_port() -> int:
    """Return a free port whose Redis Cluster bus port, 10,000 above it, is free too.

    The ports lie below the range of outgoing connections, which could take one between check and
    use. No port is returned twice in a test run: its owner may not listen yet, or may be
    restarting.
    """
    ports = ports_of(
        os.environ.get("PYTEST_XDIST_WORKER", "gw0"),
        int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
    )
    while True:
        # Not `random`, which a test may have seeded.
        port = secrets.choice(ports)
        if port not in _used_ports and _is_free(port) and _is_free(port + 10_000):
            _used_ports.add(port)
            return port


def ports_of(worker: str, workers: int) -> range:
    """Return the share of the ports for one process of pytest-xdist: "gw0", "gw1", ..."""
    each = len(_PORTS) // workers
    number = int(worker.removeprefix("gw")) % workers  # a replacement has a new number
    return _PORTS[number * each : (number + 1) * each]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
