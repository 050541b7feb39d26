"""`make install-run` on each supported version of Python, with an upload and a download."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Sluice
from support.clone import clone_workspace
from support.files import write_random
from support.interpreters import find_interpreter
from support.server import StandaloneServer


@pytest.mark.long
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_supported_python_installs_and_uploads(version: str, tmp_path: Path) -> None:
    interpreter = find_interpreter(version)
    if interpreter is None:
        pytest.skip(f"Python {version} is not on this machine")
    clone = clone_workspace(tmp_path / "sluice")
    clone.make("install-run", f"PYTHON={interpreter}")
    python = str(clone.python)
    sent = write_random(tmp_path / "sent", 5_000_000, seed=1)
    server = StandaloneServer(tmp_path / "data", python=python)
    server.start()
    try:
        sluice = Sluice(server.address, tmp_path / "state", python=python)
        for arguments in (
            ("upload", str(sent), "--drive", "first"),
            ("get", "first:sent", str(tmp_path / "received")),
        ):
            outcome = sluice.run(*arguments)
            assert outcome.code == 0, outcome.err
    finally:
        assert server.stop() == 0
    assert (tmp_path / "received").read_bytes() == sent.read_bytes()
