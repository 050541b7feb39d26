"""Documentation: the examples run, make targets exist and links resolve."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.files import write_random
from support.server import StandaloneServer

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def run_example(name: str, server: StandaloneServer, file: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / name), server.address, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_sdk_example_runs_as_documented(server: StandaloneServer, tmp_path: Path) -> None:
    """It uploads, reads the data back and shows a typed error."""
    file = write_random(tmp_path / "photo.jpg", 3 * 1024 * 1024, seed=1)
    out = run_example("sdk_upload.py", server, file)
    assert "read back: True" in out
    assert "refused: ALREADY_EXISTS PATH_EXISTS" in out
    assert f"sdk/photo.jpg {3 * 1024 * 1024}" in out


def test_wire_example_uploads_with_generated_stubs_only(
    server: StandaloneServer, tmp_path: Path
) -> None:
    file = write_random(tmp_path / "film.mp4", 20 * 1024 * 1024, seed=2)
    assert "UPLOAD_STATE_COMPLETED" in run_example("wire_upload.py", server, file)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]+)", document.read_text(), re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_of_documents_resolve(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []
