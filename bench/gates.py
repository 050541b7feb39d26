"""The gates: a figure, what it must reach, what it aims for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bench.figures import Spread


class Better(StrEnum):
    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Gate:
    """One row of the gates table (docs/performance.md)."""

    name: str
    what: str
    unit: str
    must: float
    aim: float
    better: Better

    def reaches(self, value: float, bound: float) -> bool:
        return value >= bound if self.better is Better.HIGHER else value <= bound

    def bound_text(self, bound: float) -> str:
        sign = "≥" if self.better is Better.HIGHER else "≤"
        return f"{sign} {bound:g}{self.unit}"


@dataclass(frozen=True, slots=True)
class Result:
    """A measured gate; judged by the median of its rounds."""

    gate: Gate
    spread: Spread

    @property
    def passed(self) -> bool:
        return self.gate.reaches(self.spread.median, self.gate.must)

    @property
    def verdict(self) -> str:
        if not self.passed:
            return "FAIL"
        return "pass, aim reached" if self._aimed else "pass"

    @property
    def _aimed(self) -> bool:
        return self.gate.reaches(self.spread.median, self.gate.aim)


P1_STREAM = Gate(
    "P1-stream",
    "UploadStream, acknowledged per 16 MiB chunk ÷ raw TCP over loopback",
    "",
    0.40,
    0.65,
    Better.HIGHER,
)
P1_ACK_ONE = Gate(
    "P1-ack-1",
    "p95 from the last byte of a 16 MiB chunk to its acknowledgement, 1 stream",
    " ms",
    20,
    10,
    Better.LOWER,
)
P1_ACK_FOUR = Gate(
    "P1-ack-4",
    "the same with 4 streams",
    " ms",
    20,
    10,
    Better.LOWER,
)
P1_UNARY = Gate(
    "P1-unary",
    "UploadChunk of 16 MiB, p95 of the round trip ÷ p95 of the same exchange over raw TCP",
    "",
    3.5,
    2.0,
    Better.LOWER,
)
