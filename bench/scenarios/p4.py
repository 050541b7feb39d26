"""Gate P4: P3 with events on Kafka, against phase 2."""

from __future__ import annotations

from bench.gates import P4_COST, P4_KAFKA
from bench.scenario import Effort, Outcome
from bench.scenarios.against_p2 import compare


def run(effort: Effort) -> Outcome:
    """Run phase 3 beside them to show the cost of the events.

    Not in a quick run, where its start would take most of the time.
    """
    return compare(P4_KAFKA, P4_COST, "P4", (2, 4) if effort.quick else (2, 3, 4), effort)
