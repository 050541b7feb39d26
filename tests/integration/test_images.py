"""Tests of the Dockerfiles against the distributions that they need; without Docker."""

from __future__ import annotations

import importlib.util
import re
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from support.certificates import Authority, write_tls
from support.tls_terminator import terminating_tls

ROOT: Final = Path(__file__).parents[2]
DOCKER: Final = ROOT / "deploy" / "docker"
DOCKERFILES: Final = sorted(DOCKER.glob("*.Dockerfile"))


def distributions() -> dict[str, tuple[str, list[str]]]:
    """Return folder and own dependencies of each distribution, by name."""
    by_name = {}
    for file in [*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")]:
        project = tomllib.loads(file.read_text())["project"]
        needs = [
            name.partition("[")[0]
            for name in project.get("dependencies", ())
            if name.startswith("sluice-")
        ]
        by_name[project["name"]] = (str(file.parent.relative_to(ROOT)), needs)
    return by_name


def folders_of(name: str) -> set[str]:
    """Return the folders of a distribution and of all its dependencies."""
    known, pending, folders = distributions(), [name], set[str]()
    while pending:
        folder, needs = known[pending.pop()]
        if folder not in folders:
            folders.add(folder)
            pending += needs
    return folders


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_image_has_every_required_distribution(file: Path) -> None:
    """pip installs without dependencies, so a missing one fails at the first import."""
    text = file.read_text()
    needed = folders_of(f"sluice-{file.stem}")
    copied = {
        match[1] for match in re.finditer(r"^COPY ((?:libs|services)/\S+) \1$", text, re.MULTILINE)
    }
    installed = set(re.findall(r" \./((?:libs|services)/\w+)", text))
    assert copied == installed == needed


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_copied_files_exist_and_are_not_ignored(file: Path) -> None:
    allowed = (ROOT / ".dockerignore").read_text().split()
    for source in re.findall(r"^COPY (?!--)(\S+) ", file.read_text(), re.MULTILINE):
        assert (ROOT / source).exists()
        parents = [source, *(str(one) for one in Path(source).parents)]
        assert any(f"!{one}" in allowed for one in parents), source


def test_command_image_keeps_journals_in_volume() -> None:
    """Users in images have no home, and the rest of the file system may be read-only."""
    images = [file.read_text() for file in DOCKERFILES if "COPY libs/client" in file.read_text()]
    assert images
    for text in images:
        volumes = re.findall(r"^VOLUME (\S+)$", text, re.MULTILINE)
        (state,) = re.findall(r"SLUICE_STATE_DIR=(\S+)", text)
        assert any(Path(state).is_relative_to(one) for one in volumes)


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Return the port of a server that responds with the status of the parameter."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Suppress the log."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def loaded(name: str) -> Any:
    """Return a health check of the images as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("port", "code"), [(200, 0), (503, 1)], indirect=["port"])
def test_health_checks_query_readiness_by_https(
    port: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS, gRPC may require a client certificate, which the check has not."""
    authority = Authority()
    paths = write_tls(tmp_path, authority, authority.issue(dns=["intake"], ips=()))
    monkeypatch.setenv("SLUICE_TLS__CERT_FILE", str(paths.cert))
    monkeypatch.setitem(sys.modules, "readiness", loaded("readiness"))
    with terminating_tls(paths, port) as https_port:
        monkeypatch.setenv("SLUICE_METRICS_ADDRESS", f"0.0.0.0:{https_port}")
        assert loaded("healthcheck").main() == code
    monkeypatch.setenv("SLUICE_METRICS_ADDRESS", f"0.0.0.0:{port}")
    assert loaded("healthcheck").main() == 1  # speaks no TLS


@pytest.mark.parametrize(("port", "code"), [(200, 0), (503, 1)], indirect=["port"])
def test_processor_health_check_queries_readiness(
    port: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    readiness = loaded("readiness")
    monkeypatch.setenv("SLUICE_METRICS_ADDRESS", f"0.0.0.0:{port}")
    assert readiness.main() == code
    monkeypatch.setenv("SLUICE_METRICS_ADDRESS", "0.0.0.0:1")
    assert readiness.main() == 1
