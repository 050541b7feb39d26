"""Gate P3: chunks through Redis, read and discarded by workers, against phase 2."""

from __future__ import annotations

from bench.gates import P3_COST, P3_REDIS
from bench.scenario import Effort, Outcome
from bench.scenarios.against_p2 import compare


def run(effort: Effort) -> Outcome:
    return compare(P3_REDIS, P3_COST, "P3", (2, 3), effort)
