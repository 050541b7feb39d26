"""Raw TCP over loopback, Python at both ends: the limit that results are compared with.

python -m bench.peers.tcp (--ready-file F | --connect HOST:PORT …)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

BLOCK = 1024 * 1024
_SIZE = 8
_ACK = b"\x06"


def _receive(connection: socket.socket, buffer: memoryview, size: int) -> bool:
    """Read exactly `size` bytes into the reused buffer.

    Return False at the end of the connection.
    """
    left = size
    while left:
        got = connection.recv_into(buffer, min(left, len(buffer)))
        if not got:
            return False
        left -= got
    return True


def _serve_connection(connection: socket.socket) -> None:
    buffer = memoryview(bytearray(BLOCK))
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while _receive(connection, buffer, _SIZE):
            size = int.from_bytes(buffer[:_SIZE], "big")
            if not _receive(connection, buffer, size):
                return
            connection.sendall(_ACK)


def serve(ready: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    ready.write_text(f"127.0.0.1:{listener.getsockname()[1]}\n", encoding="utf-8")
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve_connection, args=(connection,), daemon=True).start()


def _write_chunk(connection: socket.socket, block: memoryview, chunk_bytes: int) -> None:
    connection.sendall(chunk_bytes.to_bytes(_SIZE, "big"))
    left = chunk_bytes
    while left:
        connection.sendall(block[: min(left, BLOCK)])
        left -= min(left, BLOCK)


def send(
    address: str, chunk_bytes: int, chunks: int, window: int, warm_up: float
) -> dict[str, object]:
    """Send `chunks` chunks with up to `window` unacknowledged; the time covers all of them.

    A chunk is sent in 1 MiB writes and answered by one byte. The server reads into one buffer,
    verifies nothing and keeps nothing; the client sends the same block again and again, which stays
    in the cache: an upper bound, not a competitor. Before the measurement the connection carries
    chunks for `warm_up` seconds, so that its buffers have grown.
    """
    host, _, port = address.rpartition(":")
    block = memoryview(os.urandom(BLOCK))
    round_trips: list[float] = []
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        warm = time.perf_counter() + warm_up
        while time.perf_counter() < warm:
            _write_chunk(connection, block, chunk_bytes)
            connection.recv(1)
        begun = time.perf_counter()
        waiting: list[float] = []
        for _ in range(chunks):
            waiting.append(time.perf_counter())
            _write_chunk(connection, block, chunk_bytes)
            if len(waiting) == window:
                connection.recv(1)
                round_trips.append(time.perf_counter() - waiting.pop(0))
        while waiting:
            connection.recv(1)
            round_trips.append(time.perf_counter() - waiting.pop(0))
        seconds = time.perf_counter() - begun
    return {"bytes": chunk_bytes * chunks, "seconds": seconds, "round_trips": round_trips}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument("--connect")
    parser.add_argument("--chunk-bytes", type=int, default=16 * BLOCK)
    parser.add_argument("--chunks", type=int, default=64)
    parser.add_argument("--window", type=int, default=1)
    parser.add_argument("--warm-up", type=float, default=0.0, help="seconds, not measured")
    options = parser.parse_args()
    if options.connect:
        figures = send(
            options.connect,
            options.chunk_bytes,
            options.chunks,
            options.window,
            options.warm_up,
        )
        print(json.dumps(figures))
    else:
        serve(options.ready_file)


if __name__ == "__main__":
    main()
