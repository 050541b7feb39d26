"""What the Dockerfiles copy and install is what their programmes need; no Docker needed here."""

from __future__ import annotations

import importlib.util
import re
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DOCKER: Final = ROOT / "deploy" / "docker"
DOCKERFILES: Final = sorted(DOCKER.glob("*.Dockerfile"))


def distributions() -> dict[str, tuple[str, list[str]]]:
    """Folder and own dependencies of each of our distributions, by name."""
    found = {}
    for file in [*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")]:
        project = tomllib.loads(file.read_text())["project"]
        needs = [
            name.partition("[")[0]
            for name in project.get("dependencies", ())
            if name.startswith("sluice-")
        ]
        found[project["name"]] = (str(file.parent.relative_to(ROOT)), needs)
    return found


def folders_of(name: str) -> set[str]:
    """The folders of a distribution and of all that it needs."""
    known, wanted, folders = distributions(), [name], set[str]()
    while wanted:
        folder, needs = known[wanted.pop()]
        if folder not in folders:
            folders.add(folder)
            wanted += needs
    return folders


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_an_image_has_every_distribution_that_its_programme_needs(file: Path) -> None:
    """pip installs them without dependencies: what is missing is missed at the first import."""
    text = file.read_text()
    needed = folders_of(f"sluice-{file.stem}")
    copied = {
        match[1] for match in re.finditer(r"^COPY ((?:libs|services)/\S+) \1$", text, re.MULTILINE)
    }
    installed = set(re.findall(r" \./((?:libs|services)/\w+)", text))
    assert copied == installed == needed


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_what_an_image_copies_is_there_and_not_ignored(file: Path) -> None:
    allowed = (ROOT / ".dockerignore").read_text().split()
    for source in re.findall(r"^COPY (?!--)(\S+) ", file.read_text(), re.MULTILINE):
        assert (ROOT / source).exists()
        parents = [source, *(str(one) for one in Path(source).parents)]
        assert any(f"!{one}" in allowed for one in parents), source


def test_the_command_in_an_image_keeps_its_journals_in_a_volume() -> None:
    """Users of images have no home, and the rest of the file system may be read-only."""
    images = [file.read_text() for file in DOCKERFILES if "COPY libs/client" in file.read_text()]
    assert images
    for text in images:
        volumes = re.findall(r"^VOLUME (\S+)$", text, re.MULTILINE)
        (state,) = re.findall(r"SLUICE_STATE_DIR=(\S+)", text)
        assert any(Path(state).is_relative_to(one) for one in volumes)


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Where something answers every request with the status of the parameter."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Nobody reads it."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("port", "code"), [(200, 0), (503, 1)], indirect=["port"])
def test_the_health_check_of_the_processor_asks_whether_it_is_ready(
    port: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("readiness", DOCKER / "readiness.py")
    assert spec is not None
    assert spec.loader is not None
    readiness = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readiness)
    monkeypatch.setenv("SLUICE_METRICS_ADDRESS", f"0.0.0.0:{port}")
    assert readiness.main() == code
    monkeypatch.setenv("SLUICE_METRICS_ADDRESS", "0.0.0.0:1")
    assert readiness.main() == 1
