"""Tuning of the garbage collector, in a child process because it is permanent."""

from __future__ import annotations

import json
import subprocess
import sys

_PROGRAM = """
import gc, json, weakref
from sluice_common.process.garbage_collection import YOUNG_OBJECTS, tune_collector
import asyncio
tune_collector()
found = {"frozen": gc.get_freeze_count(), "threshold": gc.get_threshold()[0]}

class Cycle:
    def __init__(self):
        self.own = self

lost = weakref.ref(Cycle())
found["before"] = lost() is not None
kept = [[] for _ in range(2 * YOUNG_OBJECTS)]
found["after"] = lost() is None
print(json.dumps(found))
"""


def test_imports_are_frozen_and_cycles_are_collected() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert found["frozen"] > 1_000
    assert found["threshold"] > 700
    assert found["before"]
    assert found["after"]
