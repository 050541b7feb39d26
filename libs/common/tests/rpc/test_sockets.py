"""Received bytes per connection: the search leaves the descriptors of others as they are."""

from __future__ import annotations

import fcntl
import gc
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_common.rpc.sockets import ReceivedBytes

_OPEN_AND_CLOSE = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("INSERT INTO rows VALUES ('of another process')")
database.commit()
database.close()
"""
_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("locked")
"""


def in_another_process(program: str, file: Path) -> str:
    """Run a program on a file; return its error output, empty when it succeeds."""
    command = [sys.executable, "-I", "-c", program, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stderr.strip()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the client's end and the server's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        yield client, server


def peer_of(client: socket.socket) -> str:
    """Return the client's name in gRPC."""
    host, port = client.getsockname()
    return f"ipv4:{host}:{port}"


def test_bytes_are_counted_on_descriptors_of_others(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """The descriptor stays open and works afterwards, also for a second count."""
    client, server = ends
    received, peer = ReceivedBytes(), peer_of(client)
    for count in (1, 2):
        client.sendall(b"x" * 1000)
        server.recv(1000, socket.MSG_WAITALL)
        assert received.of([peer]) == {peer: 1000 * count}
    gc.collect()
    server.sendall(b"still open")
    assert client.recv(10, socket.MSG_WAITALL) == b"still open"


def test_search_keeps_the_locks_of_the_process(
    ends: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    """Who closes any descriptor of a file gives up all POSIX locks of the process on it."""
    path = tmp_path / "file"
    with path.open("w+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert in_another_process(_LOCK, path) == "locked"
        opened = set(os.listdir("/proc/self/fd"))
        received = ReceivedBytes()
        # The second one is unknown, so that every descriptor is looked at.
        assert set(received.of([peer_of(ends[0]), "ipv4:192.0.2.1:1"])) == {peer_of(ends[0])}
        assert set(os.listdir("/proc/self/fd")) == opened
        assert in_another_process(_LOCK, path) == "locked"


def test_search_keeps_the_log_of_an_open_database(tmp_path: Path) -> None:
    """Another process that closes the database is not its last user, and takes no log away."""
    path = tmp_path / "database"
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE rows (text)")
        assert ReceivedBytes().of(["ipv4:192.0.2.1:1"]) == {}
        assert in_another_process(_OPEN_AND_CLOSE, path) == ""
        assert path.with_name("database-wal").exists()
        database.execute("INSERT INTO rows VALUES ('of this process')")
        assert in_another_process(_OPEN_AND_CLOSE, path) == ""
        rows = database.execute("SELECT text FROM rows").fetchall()
        assert [text for (text,) in rows] == [
            "of another process",
            "of this process",
            "of another process",
        ]
    finally:
        database.close()
