"""The walk-through of docs/gateway.md, executed as it is printed, with curl and jq."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from support.missing import missing
from support.pictures import photo
from support.server import standalone

PAGE = Path(__file__).resolve().parents[2] / "docs" / "gateway.md"
SECTIONS = ("Log in", "Send photos")
MULTIPART_BYTES = 5 * 1024 * 1024


def commands_of(section: str) -> list[str]:
    """Return the blocks of commands of a section, up to its first subsection."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^## {section}\n(.*?)^##", text, re.MULTILINE | re.DOTALL)
    assert found is not None, section
    return re.findall(r"^```\n(.*?)^```$", found[1], re.MULTILINE | re.DOTALL)


def large_photo() -> bytes:
    """Return a JPEG of noise, which is sent in parts."""
    side = 1800
    noise = Image.frombytes("RGB", (side, side), random.Random(1).randbytes(3 * side * side))
    content = io.BytesIO()
    noise.save(content, "JPEG", quality=100, subsampling=0)
    assert len(content.getvalue()) > MULTIPART_BYTES
    return content.getvalue()


@pytest.fixture
def tools() -> None:
    for tool in ("bash", "curl", "jq"):
        if shutil.which(tool) is None:
            missing(f"the walk-through needs {tool}; install it")


@pytest.mark.usefixtures("tools")
def test_walk_of_the_gateway_runs_as_documented(tmp_path: Path) -> None:
    """From the registration to a thumbnail: one photo by PUT, one in parts."""
    blocks = [block for section in SECTIONS for block in commands_of(section)]
    assert len(blocks) == 8, "a block for each step"
    walk = tmp_path / "walk"
    walk.mkdir()
    (walk / "IMG_1.jpg").write_bytes(photo(800, 600))
    (walk / "IMG_2.jpg").write_bytes(large_photo())
    with standalone(tmp_path / "data") as server:
        script = "\n".join(blocks).replace("127.0.0.1:8080", server.gateway_address)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=walk,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
    state = json.loads((walk / "state.json").read_text())
    assert (state["status"], state["completedCount"], state["progress"]) == ("COMPLETED", 2, 100)
    parts = json.loads((walk / "parts.json").read_text())
    assert len(parts["parts"]) > 1
    with Image.open(walk / "thumb.webp") as thumbnail:
        assert max(thumbnail.size) == 256
    assert '"status": "PROCESSING"' in done.stdout, "the answer of finalize"
    assert '"width": 1800' in done.stdout, "the answer of the query"
