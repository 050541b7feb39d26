"""tusd on the same S3 server: resumable uploads over HTTP, by the reference server of tus.

python -m bench.peers.tusd --connect HOST:PORT --files FOLDER --in-flight 4
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final
from urllib.parse import urlsplit

from bench.processes import free_port, running
from bench.units import MIB
from tools.backends.errors import ServiceError
from tools.backends.programs import cache_dir, find_program, run_step

MODULE: Final = "github.com/tus/tusd/v2/cmd/tusd@v2.8.0"
BASE_PATH: Final = "/files/"
_BUILD_SECONDS: Final = 600.0
_READY_SECONDS: Final = 30.0
_PIECE_BYTES: Final = MIB
_TUS: Final = {"Tus-Resumable": "1.0.0"}


class TusdMissingError(Exception):
    """No tusd is available; the message says why."""


class TusError(Exception):
    """The server's answer violates the protocol."""


def find_tusd(*, build: bool = True) -> str:
    """Return the path of a tusd: the first on the PATH, else one that Go builds once into the
    cache.

    Raise TusdMissingError, whose text goes into the report.
    """
    if path := find_program("tusd"):
        return path
    program = cache_dir() / "bin" / "tusd"
    if program.exists():
        return str(program)
    if not build:
        raise TusdMissingError("there is no tusd on the PATH, and a quick run builds none")
    if (go := find_program("go")) is None:
        raise TusdMissingError("there is neither a tusd nor Go on the PATH")
    try:
        environment = {**os.environ, "GOBIN": str(program.parent)}
        run_step([go, "install", MODULE], _BUILD_SECONDS, environment=environment)
    except ServiceError as error:
        raise TusdMissingError(f"Go cannot build {MODULE} here: {_last_line(error)}") from error
    return str(program)


def _last_line(error: ServiceError) -> str:
    return str(error).strip().splitlines()[-1].strip()


@contextmanager
def tusd(
    program: str, settings: Mapping[str, str], bucket: str, *, part_bytes: int, concurrency: int
) -> Iterator[str]:
    """Run tusd on the S3 server of the settings (SLUICE_S3__…). Return HOST:PORT.

    Size and concurrency of its parts are Sluice's.
    """
    port = free_port()
    command = [
        program,
        *("-host", "127.0.0.1", "-port", str(port), "-base-path", BASE_PATH),
        *("-s3-bucket", bucket, "-s3-endpoint", settings["SLUICE_S3__ENDPOINT_URL"]),
        *("-s3-part-size", str(part_bytes), "-s3-concurrent-part-uploads", str(concurrency)),
    ]
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": settings["SLUICE_S3__ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": settings["SLUICE_S3__SECRET_KEY"],
        "AWS_REGION": settings.get("SLUICE_S3__REGION", "us-east-1"),
    }
    with running(command, environment) as process:
        deadline = time.monotonic() + _READY_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("tusd did not start")
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def upload(connection: http.client.HTTPConnection, path: Path) -> int:
    """Create an upload and send all of its bytes. Return how many. Raise TusError.

    One POST creates the upload and one PATCH carries the bytes (tus 1.0.0, "creation").
    """
    size = path.stat().st_size
    connection.request("POST", BASE_PATH, headers={**_TUS, "Upload-Length": str(size)})
    location = _answered(connection, 201)["Location"]
    with path.open("rb") as file:
        connection.request(
            "PATCH",
            urlsplit(location).path,
            body=_pieces(file.fileno()),
            headers={
                **_TUS,
                "Upload-Offset": "0",
                "Content-Length": str(size),
                "Content-Type": "application/offset+octet-stream",
            },
        )
        stored = int(_answered(connection, 204)["Upload-Offset"])
    if stored != size:
        raise TusError(f"tusd has {stored} of {size} bytes")
    return size


def _pieces(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, _PIECE_BYTES):
        yield piece


def _answered(connection: http.client.HTTPConnection, status: int) -> http.client.HTTPMessage:
    response = connection.getresponse()
    text = response.read()
    if response.status != status:
        raise TusError(f"{response.status} instead of {status}: {text[:200]!r}")
    return response.headers


def run(address: str, files: Sequence[Path], in_flight: int) -> dict[str, object]:
    """Send the files over `in_flight` open connections.

    A file's object is in S3 when its PATCH is answered.
    """
    host, _, port = address.rpartition(":")
    left: SimpleQueue[Path | None] = SimpleQueue()
    for item in (*files, *[None] * in_flight):
        left.put(item)
    with ExitStack() as stack:
        connections = [_connect(stack, host, int(port)) for _ in range(in_flight)]

        def sender(connection: http.client.HTTPConnection) -> int:
            sent = 0
            while (path := left.get()) is not None:
                sent += upload(connection, path)
            return sent

        threads = stack.enter_context(ThreadPoolExecutor(in_flight))
        cpu, begun = time.process_time(), time.perf_counter()
        total = sum(threads.map(sender, connections))
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"bytes": total, "objects": len(files), "seconds": seconds, "cpu_seconds": cpu}


def _connect(stack: ExitStack, host: str, port: int) -> http.client.HTTPConnection:
    """Return an open connection; the caller's exit stack closes it."""
    connection = stack.enter_context(closing(http.client.HTTPConnection(host, port)))
    connection.connect()
    assert connection.sock is not None
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connect", required=True)
    parser.add_argument("--files", type=Path, required=True, help="a folder; its files are sent")
    parser.add_argument("--in-flight", type=int, default=1)
    options = parser.parse_args()
    files = sorted(path for path in options.files.iterdir() if path.is_file())
    print(json.dumps(run(options.connect, files, options.in_flight)))


if __name__ == "__main__":
    main()
