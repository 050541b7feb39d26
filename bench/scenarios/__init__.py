"""Scenarios, one per module: what is run, alternated and measured.

`SCENARIOS` has all of them, in the order of a full run.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from bench.scenario import Effort, Outcome, Scenario

NAMES: Final = (
    "P1",
    "P2",
    "P3",
    "P4",
    "P5",
    "P6",
    "SMALL",
    "PHOTOS",
    "THUMBNAILS",
    "PROCESSED",
    "CHUNKS",
    "OPEN",
    "MATRIX",
    "NEIGHBOURS",
    "AUTH",
    "GATEWAY",
    "SUSTAINED",
)


def _scenario(name: str) -> Scenario:
    """Return `run` of bench/scenarios/<name>.py, imported on call: a scenario loads the libraries
    of its peers, which a run of another one does not need.
    """

    def run(effort: Effort) -> Outcome:
        outcome = import_module(f"bench.scenarios.{name.lower()}").run(effort)
        assert isinstance(outcome, Outcome)
        return outcome

    return run


SCENARIOS: Final[Mapping[str, Scenario]] = {name: _scenario(name) for name in NAMES}
