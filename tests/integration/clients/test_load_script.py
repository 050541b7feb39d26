"""The script of the load test on a real server. Node stands in for k6, whose part is the load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from support.foreign_clients import ROOT, SOURCES
from support.missing import missing
from support.server import StandaloneServer, standalone

SCRIPT = ROOT / "loadtest" / "k6-upload-test.js"
ITERATIONS, USERS = 12, 2
RUN_SECONDS = 120
CHECKS = {
    "job is created",
    "job has an id",
    "every photo can be sent",
    "job is shown",
    "job is queued",
}


def run_script(server: StandaloneServer, users: int) -> Any:
    """Run ITERATIONS of the script, spread over the users; return what it counted."""
    if (node := shutil.which("node")) is None:
        missing("the script of the load test needs Node; install it")
    ran = subprocess.run(
        [node, str(SOURCES / "k6" / "run_script.mjs"), str(SCRIPT), str(ITERATIONS), str(users)],
        env={**os.environ, "BASE_URL": f"http://{server.gateway_address}"},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_load_script_passes_its_checks(tmp_path: Path) -> None:
    settings = {"SLUICE_GATEWAY__JOBS_PER_MINUTE": "1000"}
    with standalone(tmp_path / "data", settings) as server:
        counted = run_script(server, USERS)
    assert counted["checks"] == {name: [ITERATIONS, 0] for name in CHECKS}
    assert counted["statuses"] == {"201": USERS + ITERATIONS, "200": ITERATIONS}
    assert counted["slept"] == ITERATIONS


def test_load_script_counts_refused_jobs(tmp_path: Path) -> None:
    """Against the limit of jobs: what is refused is a missed check and a failed request."""
    with standalone(tmp_path / "data", {"SLUICE_GATEWAY__JOBS_PER_MINUTE": "3"}) as server:
        counted = run_script(server, 1)
    created, missed = counted["checks"]["job is created"]
    assert created >= 3
    assert missed > 0
    assert created + missed == ITERATIONS
    assert counted["checks"]["every photo can be sent"] == [created, missed]
    assert counted["statuses"]["429"] == missed
    assert counted["checks"]["job is shown"] == [created, 0]
