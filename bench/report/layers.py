"""Cost of each layer, from the TCP limit to phase 6. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.report.document import Document, SeriesRecord
from bench.units import MB, MIB

ORDER: Final = ("raw TCP", "gRPC echo", *(f"phase {phase}" for phase in range(1, 7)))
"""From the limit downward: every layer of the plan with those above it."""
_MICROSECONDS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer on top of those before it."""

    name: str
    rate: float
    """MB/s with this layer."""
    before: float | None
    """MB/s without it; None for the limit, the reference of all layers."""

    @property
    def ratio(self) -> float | None:
        """Fraction of the previous layer's throughput that remains."""
        return None if self.before is None else self.rate / self.before

    @property
    def added_us_per_mib(self) -> float:
        """Microseconds added to every MiB by this layer; negative when it saves time."""
        cost = _cost(self.rate)
        return cost if self.before is None else cost - _cost(self.before)


def _cost(rate: float) -> float:
    return MIB / (rate * MB) * _MICROSECONDS


def layers(document: Document) -> list[Layer]:
    """Return the layers of a run, in `ORDER`.

    A layer is compared with the last one before it that was measured in the same scenario: minutes
    apart, the machine behaves differently. With several such scenarios, their median counts; a
    layer without such a scenario has only its own rate.
    """
    rows = [dict(zip(map(str, s["x"]), s["y"], strict=True)) for s in _of_layers(document)]
    ordered: list[Layer] = []
    for name in _names(rows):
        own = [row[name] for row in rows if name in row]
        rate = median(own)
        for before in reversed(ordered):
            ratios = [row[name] / row[before.name] for row in rows if {name, before.name} <= {*row}]
            if ratios:
                rate = before.rate * median(ratios)
                break
        ordered.append(Layer(name, rate, ordered[-1].rate if ordered else None))
    return ordered


def _names(rows: Iterable[Collection[str]]) -> list[str]:
    """Return each layer once, in `ORDER`; one that is not in it follows the layer that its scenario
    named before it, or comes last.
    """
    places = {name: float(place) for place, name in enumerate(ORDER)}
    names: dict[str, None] = {}
    for row in rows:
        place = float(len(ORDER))
        for name in row:
            place = places.setdefault(name, place + 0.5)
            names[name] = None
    return sorted(names, key=lambda name: places[name])


def _of_layers(document: Document) -> Iterable[SeriesRecord]:
    return (
        series
        for scenario in document["scenarios"].values()
        for series in scenario["series"]
        if series["plot"] == "layers"
    )
