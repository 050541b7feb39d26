"""Environment of the measured processes."""

from __future__ import annotations

import pytest

from bench.processes import server

PROGRAM = """if True:
    import os, pathlib, signal, sys
    names = [name for name in os.environ if name.startswith(("SLUICE", "COVERAGE"))]
    pathlib.Path(sys.argv[2]).write_text(",".join(sorted(names)) + "\\n")
    signal.pause()
"""


def test_server_has_scenario_settings_and_no_coverage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLUICE_LOG_LEVEL", "debug")
    monkeypatch.setenv("COVERAGE_PROCESS_START", "somewhere")
    with server(["-c", PROGRAM], {"SLUICE_GRPC__REFLECTION": "false"}) as running:
        assert running.address == "SLUICE_GRPC__REFLECTION"
