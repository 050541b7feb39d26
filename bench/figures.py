"""Statistics of a run: samples, percentiles, spread. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that at least `percent` % of the samples do not exceed (nearest
    rank).

    Raise ValueError without samples.
    """
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True, slots=True)
class Spread:
    """The rounds of one figure."""

    minimum: float
    median: float
    maximum: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(min(values), median(values), max(values))

    def text(self, digits: int = 2) -> str:
        return f"{self.median:.{digits}f} [{self.minimum:.{digits}f} … {self.maximum:.{digits}f}]"
