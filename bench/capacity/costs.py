"""Processor time of each service per GiB and per file, from a measured run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench.report.document import Document
from bench.units import GIB, MB

SERVICES: Final = ("intake", "repository", "redis", "mysql")
"""Processes whose cost depends on the bytes and on the files."""


class NotMeasuredError(Exception):
    """The run lacks a figure that the model needs."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor time that a service takes for a load."""

    seconds_per_gib: float
    seconds_per_file: float

    def cores(self, bytes_per_second: float, files_per_second: float) -> float:
        """Return the busy cores, which is CPU seconds per second."""
        return (
            self.seconds_per_gib * bytes_per_second / GIB + self.seconds_per_file * files_per_second
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU seconds per GiB of one process under a load of files of one size."""

    file_bytes: float
    seconds_per_gib: float

    @property
    def files_per_gib(self) -> float:
        return GIB / self.file_bytes


def fit(large: Sample, small: Sample) -> Cost:
    """Return the cost that explains both samples: seconds per GiB = a + b · files per GiB.

    Neither part is below 0: a smaller load that is the cheaper one per GiB is noise, and all of the
    cost of the large one is then its bytes'. Raise ValueError unless `small` has smaller files.
    """
    if small.file_bytes >= large.file_bytes:
        raise ValueError(f"{small.file_bytes} is not smaller than {large.file_bytes}")
    slope = (small.seconds_per_gib - large.seconds_per_gib) / (
        small.files_per_gib - large.files_per_gib
    )
    per_file = min(max(0.0, slope), large.seconds_per_gib / large.files_per_gib)
    return Cost(large.seconds_per_gib - per_file * large.files_per_gib, per_file)


@dataclass(frozen=True, slots=True)
class Costs:
    """What a run says about the services.

    `photo_seconds`: a decoder's CPU seconds for a photo of 12 megapixels. `kafka_seconds`: the
    broker's for a file. `gateway_seconds`: the gateway's for a photo; None if the run has none.
    `photo_bytes` and `stream_bytes_per_second`: the mean photo and the rate of a sending stream of
    the run's own loads.
    """

    services: Mapping[str, Cost]
    photo_seconds: float
    kafka_seconds: float
    gateway_seconds: float | None
    photo_bytes: float
    stream_bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Check:
    """A service's CPU seconds per GiB for the photos: from the model, and measured."""

    service: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """How far the model is off, as a fraction of what was measured."""
        return self.predicted / self.measured - 1


def read_costs(document: Document) -> Costs:
    """Return the costs of a run. Raise NotMeasuredError.

    Bytes and files are told apart by two loads: P6 (phase 6, large objects) and SMALL.
    """
    photo_bytes = _photo_bytes(document)
    services = {}
    for service in SERVICES:
        large = Sample(
            _number(document, "P6", "object_bytes"), _cpu(document, "P6", "phase_6", service)
        )
        small = Sample(
            _number(document, "SMALL", "file_bytes"), _cpu(document, "SMALL", "sluice", service)
        )
        services[service] = fit(large, small)
    return Costs(
        services=services,
        photo_seconds=1 / _number(document, "THUMBNAILS", "photos_per_second_and_core"),
        kafka_seconds=_cpu(document, "PHOTOS", "sluice", "kafka") * photo_bytes / GIB,
        gateway_seconds=_gateway_seconds(document),
        photo_bytes=photo_bytes,
        stream_bytes_per_second=MB * _number(document, "OPEN", "mb_per_second_of_each"),
    )


def checks(document: Document, costs: Costs) -> list[Check]:
    """Return the model beside a load that it was not made from: PHOTOS."""
    files = GIB / costs.photo_bytes
    return [
        Check(service, cost.cores(GIB, files), _cpu(document, "PHOTOS", "sluice", service))
        for service, cost in costs.services.items()
    ]


def _photo_bytes(document: Document) -> float:
    return _number(document, "PHOTOS", "bytes") / _number(document, "PHOTOS", "photos")


def _cpu(document: Document, scenario: str, run: str, process: str) -> float:
    return _number(document, scenario, run, "processes", process, "cpu_seconds_per_gib")


def _gateway_seconds(document: Document) -> float | None:
    """Return CPU seconds of all replicas for a photo: their share of the time, per photo."""
    if "GATEWAY" not in document["scenarios"]:
        return None
    record = document["scenarios"]["GATEWAY"]
    seconds = next(g["median"] for g in record["gates"] if g["name"] == "gateway-photos")
    percent = sum(
        _number(document, "GATEWAY", "processes", name, "cpu_percent")
        for name in record["figures"]["processes"]
        if name != "database"
    )
    if seconds is None:
        return None
    return percent / 100 * seconds / _number(document, "GATEWAY", "photos")


def _number(document: Document, scenario: str, *path: str) -> float:
    """Return a figure, or the median of one with a spread."""
    record = document["scenarios"].get(scenario)
    value: Any = {} if record is None else record["figures"]
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            raise NotMeasuredError(f"{scenario}: {', '.join(path)} is not in the run")
        value = value[name]
    return float(str(value).partition(" ")[0].replace(",", ""))
