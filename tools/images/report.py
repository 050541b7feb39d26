"""Report of the steps: what was done, its duration and outcome, including steps not reached."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tools.backends.errors import ServiceError
from tools.backends.progress import say


@dataclass(slots=True)
class Report:
    """Outcomes by the name of the step, in their order."""

    outcomes: dict[str, str] = field(default_factory=dict)
    failed: bool = False

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run a step and record its failure; independent steps continue."""
        say("check", name)
        begun = time.monotonic()
        try:
            yield
        except ServiceError as error:
            self.failed = True
            self._note(name, f"FAILED after {time.monotonic() - begun:.0f} s")
            sys.stderr.write(f"{error}\n")
        else:
            self._note(name, f"{time.monotonic() - begun:.0f} s")

    def passed(self, *names: str) -> bool:
        return all(not self.outcomes.get(name, "FAILED").startswith("FAILED") for name in names)

    def finish(self, expected: Sequence[str]) -> int:
        """Print every step, including those not reached. Return the exit code."""
        for name in expected:
            outcome = self.outcomes.get(name)
            if outcome is None:
                self.failed = True
                outcome = "NOT RUN: a step before it failed"
            sys.stderr.write(f"{name:<50} {outcome}\n")
        return 1 if self.failed else 0

    def _note(self, name: str, outcome: str) -> None:
        self.outcomes[name] = outcome
        say("check", f"{name}: {outcome}")
