"""Peers: they transfer all of the same bytes, and report when they did not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bench.peers import tusd
from bench.processes import load, server
from bench.units import MIB


@contextmanager
def tus_server(*, loses_bytes: int = 0) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Serve the subset of tus 1.0.0 that the client needs. Yield its address and its files."""
    stored: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert self.headers["Tus-Resumable"] == "1.0.0"
            name = f"{tusd.BASE_PATH}{len(stored)}"
            stored[name] = b""
            self._answer(201, {"Location": f"http://{self.headers['Host']}{name}"})

        def do_PATCH(self) -> None:
            assert self.headers["Content-Type"] == "application/offset+octet-stream"
            assert int(self.headers["Upload-Offset"]) == len(stored[self.path])
            data = self.rfile.read(int(self.headers["Content-Length"]))
            stored[self.path] += data[: len(data) - loses_bytes]
            self._answer(204, {"Upload-Offset": str(len(stored[self.path]))})

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Discard the log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{http.server_address[1]}", stored
        finally:
            http.shutdown()
            thread.join()


def test_tus_client_sends_every_byte(tmp_path: Path) -> None:
    contents = [bytes([number]) * (number * 700_000) for number in range(1, 6)]
    files = []
    for number, content in enumerate(contents):
        files.append(tmp_path / str(number))
        files[-1].write_bytes(content)
    with tus_server() as (address, stored):
        figures = tusd.run(address, files, in_flight=2)
    assert sorted(stored.values()) == sorted(contents)
    assert figures["bytes"] == sum(map(len, contents))
    assert figures["objects"] == 5


def test_tus_client_detects_lost_bytes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    with (
        tus_server(loses_bytes=1) as (address, _),
        pytest.raises(tusd.TusError, match="999 of 1000 bytes"),
    ):
        tusd.run(address, [file], in_flight=1)


def test_missing_tusd_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tusd, "find_program", lambda *_: None)
    with pytest.raises(tusd.TusdMissingError, match="neither a tusd nor Go"):
        tusd.find_tusd()


def test_failed_build_of_tusd_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'go: no such module'\nexit 1\n", encoding="utf-8")
    go.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tusd, "find_program", lambda name: str(go) if name == "go" else None)
    with pytest.raises(tusd.TusdMissingError, match="no such module"):
        tusd.find_tusd()


@pytest.mark.parametrize("mode", ["stream", "unary"])
def test_bare_grpc_server_answers_every_chunk_of_the_load(mode: str) -> None:
    with server(["-m", "bench.peers.echo"]) as echo:
        figures = load(
            "bench.load.uploads",
            *("--target", echo.address, "--mode", mode, "--streams", "2", "--window", "2"),
            *("--chunks", "6", "--chunk-bytes", str(2 * MIB + 1)),
        )
    assert figures["errors"] == {}
    assert figures["bytes"] == 6 * (2 * MIB + 1)
