"""Latencies of any number of events in little memory: HdrHistogram, three significant digits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from hdrh.histogram import HdrHistogram

PERCENTILES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)
_PER_SECOND: Final = 1_000_000
_LARGEST: Final = 3600 * _PER_SECOND
_DIGITS: Final = 3


class Latencies:
    """Durations from a microsecond to an hour; longer ones count as an hour.

    To avoid coordinated omission at a constant rate (open loop), record the time since each event
    was *due*, not since it was sent: a generator that waits for a slow answer sends later events
    late, and their wait would not be counted (`bench/load/schedule.py` computes when each is due).
    """

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LARGEST, _DIGITS)

    def record(self, seconds: float) -> None:
        self._histogram.record_value(min(_LARGEST, max(1, round(seconds * _PER_SECOND))))

    def add(self, other: Latencies) -> None:
        """Add the events of another instance."""
        self._histogram.add(other._histogram)

    @property
    def count(self) -> int:
        return int(self._histogram.get_total_count())

    def milliseconds(self, percent: float) -> float:
        """Return what at least `percent` % of the events did not exceed.

        Raise ValueError without events.
        """
        return self.percentiles([percent])[percent]

    def percentiles(self, percents: Sequence[float]) -> dict[float, float]:
        """Return `milliseconds` of several percentiles: the library scans all buckets on each call.

        Raise ValueError without events.
        """
        if not (total := self.count):
            raise ValueError("no samples")
        # The library rounds the rank to the nearest integer; ours rounds up.
        ranks = {p: 100 * max(1, math.ceil(total * p / 100)) / total for p in percents}
        values = self._histogram.get_percentile_to_value_dict(sorted({*ranks.values()}))
        return {percent: float(values[rank]) / 1000 for percent, rank in ranks.items()}

    def to_json(self) -> dict[str, object]:
        """Return percentiles for people, and the histogram (`hdr`) for adding up."""
        record: dict[str, object] = {"count": self.count, "hdr": self._histogram.encode().decode()}
        if self.count:
            record |= {f"p{p:g}_ms": value for p, value in self.percentiles(PERCENTILES).items()}
        return record

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        latencies = cls()
        latencies._histogram.decode_and_add(value["hdr"].encode())
        return latencies

    @classmethod
    def of(cls, values: Sequence[Mapping[str, Any]]) -> Self:
        """Return all the events of several `to_json`."""
        latencies = cls()
        for value in values:
            latencies.add(cls.from_json(value))
        return latencies
