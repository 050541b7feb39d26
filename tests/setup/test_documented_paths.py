"""Paths in the documentation exist, and the worked examples are complete."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from support.clone import ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# What the walks in docs/architecture.md call the source folders.
SHORT = {
    "core": "libs/core/src/sluice_core",
    "backends": "libs/backends/src/sluice_backends",
    "common": "libs/common/src/sluice_common",
    "intake": "services/intake/src/sluice_intake",
    "repository": "services/repository/src/sluice_repository",
    "processor": "services/processor/src/sluice_processor",
    "gateway": "services/gateway/src/sluice_gateway",
}
FOLDERS = "libs|services|tests|tools|bench|docs|protos|deploy|requirements|web"
LONG_PATH = re.compile(rf"(?<![\w/.])(?:{FOLDERS})/[\w./-]*\w/?")
SHORT_PATH = re.compile(rf"(?<![\w/])({'|'.join(SHORT)})/([\w/]+\.py)")
EXAMPLE = re.compile(r"<!-- worked example: (.+?) -->\n((?:\|.*\n)+)")


def tracked_files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_in_documents_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = [code for code in re.findall(r"`([^`\n]+)`", text) if "*" not in code]
    paths = [path for code in named for path in LONG_PATH.findall(code)]
    files = set(tracked_files())
    folders = {str(parent) for file in files for parent in Path(file).parents}
    lost = [path for path in paths if path not in files and path.rstrip("/") not in folders]
    assert [path for path in lost if not _is_generated(path)] == []


def test_walks_name_existing_files() -> None:
    """The walk of a chunk and of a photo, whose paths are short."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    walked = [f"{SHORT[short]}/{rest}" for short, rest in SHORT_PATH.findall(text)]
    assert len(walked) > 30
    assert [path for path in walked if not (ROOT / path).is_file()] == []


def test_worked_examples_name_every_file() -> None:
    """A table that lacks a file would make its reader forget that file."""
    examples = EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(examples) == 4
    sources = [
        file
        for file in tracked_files()
        if re.match(r"(libs|services)/\w+/src/|protos/", file) and "_pb2" not in file
    ]
    for words, table in examples:
        pattern = re.compile(rf"\b({words})\b")
        needed = {
            file
            for file in sources
            if pattern.search(Path(file).stem) or _mentions(ROOT / file, pattern)
        }
        assert set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)) == needed


def _mentions(file: Path, pattern: re.Pattern[str]) -> bool:
    """Whether the code says it, not only a text for people."""
    for line in file.read_text(encoding="utf-8").splitlines():
        code = line.strip()
        if not code.startswith(('"""', "#", "//", "--")) and pattern.search(code):
            return True
    return False


def _is_generated(path: str) -> bool:
    return path.startswith(("bench/results", "docs/bench"))
