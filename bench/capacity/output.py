"""The capacity model as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.capacity.costs import Check, Costs
from bench.capacity.facts import FACTS, Fact
from bench.capacity.limits import Limit, limits
from bench.capacity.model import Allowance, Load, Need, Plan, plan, whole
from bench.capacity.shipped import Shipped
from bench.units import GIB, MB

_DAY_SECONDS: Final = 24 * 3600
_NOT_MEASURED: Final = "not measured"

UNKNOWN: Final = (
    "the gateway's row, where it says so: the run lacks the scenario GATEWAY",
    "photos that do not have about 12 megapixels",
    "a processor's own time for reading, hashing and recording a photo, beside its decoders",
    "how many events a second a relay publishes, and how many commits a second MySQL takes",
    "the roles of the repository one by one: the run measures all of them in one process",
    "processes on machines of their own: the run had the clients and all servers on two cores",
    "durability classes other than `memory`, TLS and authentication",
)
"""What the model leaves out, because nothing committed says it."""


@dataclass(frozen=True, slots=True)
class Model:
    """All that the plans of several loads share."""

    costs: Costs
    checks: Sequence[Check]
    shipped: Shipped
    allowance: Allowance
    source: str
    """Where the costs are from: file, commit, time."""

    def plan(self, load: Load) -> Plan:
        return plan(load, self.costs, self.shipped, self.allowance)

    def limits(self, load: Load) -> Sequence[Limit]:
        return limits(self.plan(load), self.shipped, self.allowance)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table. A `_Needs` says by itself what its figures rest on."""

    name: str
    basis: str
    cell: Callable[[Plan], str]

    def lines(self, plans: Sequence[Plan]) -> Iterator[tuple[str, ...]]:
        yield (self.name, *map(self.cell, plans), self.basis)


@dataclass(frozen=True, slots=True)
class _Needs:
    """A whole number of something, and what decides it where there are several reasons."""

    name: str
    need: Callable[[Plan], Need | None]

    def lines(self, plans: Sequence[Plan]) -> Iterator[tuple[str, ...]]:
        found = [need for p in plans if (need := self.need(p)) is not None]
        if not found:
            yield (self.name, *(_NOT_MEASURED for _ in plans), "")
            return
        bases = sorted({need.decided_by.basis for need in found})
        yield (self.name, *(f"{need.count:,}" for need in found), ", ".join(bases))
        if len(found[0].reasons) > 1:
            yield ("  decided by", *(need.decided_by.name for need in found), "")


def _figure(value: float) -> str:
    """Return three significant digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gib(value: float) -> str:
    return f"{_figure(value / GIB)} GiB"


def _intake_memory(needed: Plan) -> str:
    return f"{_figure(needed.intake_memory_mib)} MiB"


_ROWS: Final[Sequence[_Row | _Needs]] = (
    _Row("files a second", "given", lambda p: _figure(p.load.files_per_second)),
    _Row("time to store all objects", "given", lambda p: _duration(p.seconds_to_store)),
    _Row("sending streams", "assumed", lambda p: _figure(p.streams)),
    _Needs("intake: pods", lambda p: p.intake),
    _Row("  busy cores", "measured", lambda p: _figure(p.intake_cores)),
    _Row("  memory of a pod with its streams", "measured", _intake_memory),
    _Needs("repository, all roles: pods", lambda p: p.repository),
    _Row("  busy cores", "measured", lambda p: _figure(p.repository_cores)),
    _Row("  parts at once", "assumed", lambda p: _figure(p.parts_in_flight)),
    _Needs("processor: pods", lambda p: p.processor),
    _Row("  busy cores of decoders", "measured", lambda p: _figure(p.processor_cores)),
    _Needs("gateway, all photos by it: pods", lambda p: p.gateway),
    _Needs("Redis: servers, each a shard", lambda p: p.redis),
    _Row("  busy cores", "measured", lambda p: _figure(p.redis_cores)),
    _Row("  bytes that wait for the store", "assumed", lambda p: _gib(p.waiting_bytes)),
    _Row("  records of ended uploads", "assumed", lambda p: _gib(p.record_bytes)),
    _Row("  busy cores of the budget's slot", "assumed", lambda p: _figure(p.budget_cores)),
    _Row("  parts a second in each work queue", "counted", lambda p: _figure(p.parts_per_queue)),
    _Needs("Kafka: partitions", lambda p: p.partitions),
    _Row("  events a second", "counted", lambda p: _figure(p.events)),
    _Row("  busy cores", "measured", lambda p: _figure(p.kafka_cores)),
    _Needs("S3: drives to write to", lambda p: p.drives),
    _Needs("S3: prefixes for thumbnails", lambda p: p.thumbnail_prefixes),
    _Row("  writes a second", "counted", lambda p: _figure(p.writes + p.thumbnail_writes)),
    _Row("MySQL: busy cores", "measured", lambda p: _figure(p.mysql_cores)),
    _Row("  transactions a second", "counted", lambda p: _figure(p.mysql_transactions)),
    _Row("  rows of all objects", "assumed", lambda p: _gib(p.catalogue_bytes)),
)


def text(model: Model, loads: Sequence[Load]) -> str:
    """Return all tables. The loads differ in their rate only."""
    plans = [model.plan(load) for load in loads]
    headings = [_rate(load.bytes_per_second) for load in loads]
    sections = (
        _title(model, loads[0]),
        _table(
            [
                ("", *headings, "basis"),
                *(line for row in _ROWS for line in row.lines(plans)),
            ]
        ),
        "Bounds as shipped, in the order in which a growing load reaches them:",
        _table(_bound_rows(model, loads)),
        "\n".join(_breaks_first(model, load) for load in loads),
        "The model beside a load that it was not made from (PHOTOS), CPU s per GiB:",
        _table(
            [
                ("", "model", "measured", "off by"),
                *(
                    (c.service, f"{c.predicted:.2f}", f"{c.measured:.2f}", f"{c.error:+.0%}")
                    for c in model.checks
                ),
            ]
        ),
        "Figures that the run does not have:",
        "\n".join(map(_fact, FACTS)),
        "Not in the model, because it was not measured:",
        "\n".join(f"- {each}" for each in UNKNOWN),
    )
    return "\n\n".join(sections)


def _title(model: Model, load: Load) -> str:
    return "\n".join(
        (
            f"{load.objects:,.0f} objects of {_figure(load.file_bytes / MB)} MB, "
            f"{load.photo_share:.0%} of them photos; streams of "
            f"{_figure(load.stream_bytes_per_second / MB)} MB/s; policy {load.integrity}",
            f"cores of a pod: {model.allowance.core_share:g}; {model.allowance.headroom:.0%} of "
            "pods, Redis, MySQL and the byte budget stays free",
            f"costs: {model.source}",
        )
    )


def _bound_rows(model: Model, loads: Sequence[Load]) -> Iterator[tuple[str, ...]]:
    """Yield one row per bound: its ratio grows with the rate, so the order is that of any load."""
    yield (
        "bound",
        "reached at",
        *(_rate(load.bytes_per_second) for load in loads),
        "basis",
        "raise it by",
    )
    for first in model.limits(loads[0]):
        cells = (
            next(_times(other) for other in model.limits(load) if other.name == first.name)
            for load in loads
        )
        reached = _rate(first.reached_at(loads[0].bytes_per_second))
        yield first.name, reached, *cells, first.basis, first.remedy


def _times(limit: Limit) -> str:
    return f"{_figure(limit.ratio)} ×"


def _breaks_first(model: Model, load: Load) -> str:
    """Return what a load breaks: as shipped, and with every setting raised."""
    rate, found = _rate(load.bytes_per_second), model.limits(load)
    if found[0].ratio <= 1:
        return f"{rate}: nothing breaks; the closest bound is {found[0].name}, {_times(found[0])}"
    hard = next(limit for limit in found if limit.is_hard)
    first = f"{rate} breaks first: {found[0].name}, {_times(found[0])}"
    if hard.ratio <= 1:
        return f"{first}; with settings raised, it fits into one deployment"
    return (
        f"{first}; with settings raised: {hard.name}, {_times(hard)}, "
        f"so {whole(hard.ratio)} deployments"
    )


def as_json(model: Model, loads: Sequence[Load]) -> dict[str, Any]:
    """Return everything that `text` shows, unrounded."""
    return {
        "source": model.source,
        "allowance": asdict(model.allowance),
        "costs": asdict(model.costs),
        "checks": [{**asdict(check), "error": check.error} for check in model.checks],
        "shipped": asdict(model.shipped),
        "facts": [asdict(fact) for fact in FACTS],
        "not_measured": list(UNKNOWN),
        "plans": [_plan_json(model, load) for load in loads],
    }


def _plan_json(model: Model, load: Load) -> dict[str, Any]:
    needed = model.plan(load)
    figures = {
        name: (
            {"count": value.count, "exact": value.exact, "decided_by": asdict(value.decided_by)}
            if isinstance(value, Need)
            else value
        )
        for name in needed.__dataclass_fields__
        if name != "load"
        for value in [getattr(needed, name)]
    }
    return {
        "load": {**asdict(load), "files_per_second": load.files_per_second},
        "needs": figures,
        "limits": [
            {
                **asdict(limit),
                "ratio": limit.ratio,
                "reached_at_bytes_per_second": limit.reached_at(load.bytes_per_second),
            }
            for limit in model.limits(load)
        ],
    }


def _fact(fact: Fact) -> str:
    basis = ", ".join(filter(None, (fact.basis, fact.source)))
    return f"- {fact.name}: {_amount(fact)} ({basis})"


def _rate(bytes_per_second: float) -> str:
    return f"{_figure(bytes_per_second / (1000 * MB))} GB/s"


def _amount(fact: Fact) -> str:
    """Return the value with its unit; bytes in GiB, as memory is named, rates of them in MB."""
    if fact.unit == "B" and fact.value >= GIB:
        return f"{fact.value / GIB:g} GiB"
    if fact.unit == "B/s":
        return f"{fact.value / MB:g} MB/s"
    return f"{fact.value:g} {fact.unit}"


def _duration(seconds: float) -> str:
    return f"{_figure(seconds / _DAY_SECONDS)} days"


def _table(rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> str:
    """Return aligned columns: the first and the last to the left, the others to the right."""
    lines = list(rows)
    last = len(lines[0]) - 1
    widths = [max(len(line[column]) for line in lines) for column in range(last + 1)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, last) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
