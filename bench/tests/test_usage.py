"""Resource usage of a process, seen from outside."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from bench.usage import Watched, listening

SENT = 256 * 1024


def test_tcp_bytes_count_open_connections() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        here = Watched(os.getpid())
        if here.usage().sent_bytes is None:
            pytest.skip("this kernel does not let a process look at sockets by pidfd")
        client.sendall(bytes(SENT))
        got = 0
        while got < SENT:
            got += len(server.recv(SENT))
        used = here.usage()
        # Both ends are in this process.
        assert used.sent_bytes == used.received_bytes == SENT
        assert here.usage().sent_bytes == 0


def test_cpu_is_counted_since_the_last_call() -> None:
    here = Watched(os.getpid())
    here.usage()
    total = 0
    while (used := here.usage()).cpu_seconds == 0:
        total += sum(range(100_000))
    assert 0 < used.cpu_seconds < 5
    assert used.resident_bytes <= used.peak_bytes


def test_context_switches_are_those_of_all_threads() -> None:
    def sleep_often() -> None:
        for _ in range(200):
            time.sleep(0.0001)
        done.set()
        leave.wait()

    done, leave = threading.Event(), threading.Event()
    here = Watched(os.getpid())
    thread = threading.Thread(target=sleep_often)
    thread.start()
    try:
        done.wait()
        assert here.usage().context_switches >= 200
    finally:
        leave.set()
        thread.join()


def test_service_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = listening(listener.getsockname()[1])
        assert found is not None
        assert found.pid == os.getpid()
        port = listener.getsockname()[1]
    assert listening(port) is None
