"""Figures of a run as generated Markdown blocks between two marks in docs/. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from bench.capacity import command
from bench.capacity.costs import NotMeasuredError
from bench.report.document import Document, GateRecord
from bench.report.flat import text
from bench.report.layers import layers
from bench.report.table import spread_text, verdict
from bench.units import GIB, MB

_BLOCK: Final = re.compile(
    r"(<!-- figures: ([^\n]*?) -->\n).*?(<!-- end of figures -->)", re.DOTALL
)
PHASES: Final = ("P1", "P2", "P3", "P4", "P5", "P6")
_NOT_MEASURED: Final = "Not measured in this run."


class UnknownBlockError(Exception):
    """A mark names an unknown block."""


def fill(page: str, document: Document) -> str:
    """Return the page with every block regenerated. Raise UnknownBlockError.

        <!-- figures: gates P1 -->
        …
        <!-- end of figures -->

    Blocks: `run` (when, where, on which versions), `gates` (all of them), `gates NAME…` (those of
    some scenarios), `layers`, `phase NAME` (date, gates, throughput, latency, errors, processes),
    `order` (which phases passed, one after the other), `throughput NAME` (against concurrency),
    `cores NAME…` (what a core of each process carries), `harness` (what measuring costs) and
    `capacity` (what `python -m bench.capacity` prints for the kept run).
    """

    def render(match: re.Match[str]) -> str:
        name, *arguments = match[2].split()
        if name not in _BLOCKS:
            raise UnknownBlockError(f"{match[2]!r} is none of {', '.join(_BLOCKS)}")
        return f"{match[1]}\n{_BLOCKS[name](document, arguments)}\n\n{match[3]}"

    return _BLOCK.sub(render, page)


def _run(document: Document, _: Sequence[str]) -> str:
    machine = document["machine"]
    if not machine:
        return _NOT_MEASURED
    packages = ", ".join(f"{n} {v}" for n, v in machine.get("packages", {}).items() if v)
    backends = ", ".join(f"{name} {kind}" for name, kind in machine.get("backends", {}).items())
    rows = (
        ("measured", machine.get("measured_at")),
        ("commit", machine.get("commit")),
        ("processor", f"{machine.get('cpu')}, {text(machine.get('cores'))} cores"),
        ("memory", f"{machine.get('memory_bytes', 0) / GIB:.0f} GiB"),
        ("kernel, libc", f"Linux {machine.get('kernel')}, {machine.get('libc')}"),
        ("Python", machine.get("python")),
        ("packages", packages),
        ("backends", backends),
    )
    return _table(("", ""), [(name, text(value)) for name, value in rows])


def _gates(document: Document, scenarios: Sequence[str]) -> str:
    chosen = scenarios or list(document["scenarios"])
    gates = [g for s in chosen if s in document["scenarios"] for g in _of(document, s)["gates"]]
    return _gate_table(gates) if gates else _NOT_MEASURED


def _gate_table(gates: Sequence[GateRecord]) -> str:
    return _table(
        ("gate", "median [min … max]", "must", "aim", "result"),
        [
            (gate["what"], spread_text(gate), gate["must_text"], gate["aim_text"], verdict(gate))
            for gate in gates
        ],
    )


def _layers(document: Document, _: Sequence[str]) -> str:
    steps = layers(document)
    if not steps:
        return _NOT_MEASURED
    return _table(
        ("layer", "MB/s", "of the layer before", "µs per MiB that it adds"),
        [
            (
                step.name,
                f"{step.rate:,.0f}",
                "" if step.ratio is None else f"{step.ratio:.2f}",
                f"{step.added_us_per_mib:+,.0f}",
            )
            for step in steps
        ],
    )


def _phase(document: Document, arguments: Sequence[str]) -> str:
    (name,) = arguments
    if name not in document["scenarios"]:
        return _NOT_MEASURED
    record = _of(document, name)
    runs = list(_runs(record["figures"]))
    blocks = [f"Measured {record['measured_at']}.", _gate_table(record["gates"])]
    if runs:
        blocks += [_run_table(runs), _process_table(runs)]
    return "\n\n".join(blocks)


def _order(document: Document, _: Sequence[str]) -> str:
    """Return the table of phases, which are gates in sequence: one counts when all before it
    passed.
    """
    rows, counts = [], True
    for name in PHASES:
        if name not in document["scenarios"]:
            rows.append((name, "–", "not measured", "no"))
            counts = False
            continue
        record = _of(document, name)
        passed = all(gate["passed"] for gate in record["gates"])
        counts = counts and passed
        verdict_text = "passed" if passed else "FAIL"
        rows.append((name, record["measured_at"], verdict_text, "yes" if counts else "no"))
    return _table(("phase", "measured", "its gates", "with all before it"), rows)


def _throughput(document: Document, arguments: Sequence[str]) -> str:
    (name,) = arguments
    if name not in document["scenarios"]:
        return _NOT_MEASURED
    lines = [s for s in _of(document, name)["series"] if s["plot"] == "throughput"]
    columns = sorted({x for line in lines for x in line["x"]})
    rows = []
    for line in lines:
        measured = dict(zip(line["x"], line["y"], strict=True))
        cells = (f"{measured[x]:,.0f}" if x in measured else "–" for x in columns)
        rows.append((line["name"], *cells))
    return _table((f"{lines[0]['unit']} at" if lines else "", *map(text, columns)), rows)


def _cores(document: Document, scenarios: Sequence[str]) -> str:
    rows = [
        (name, run_name, process, _per_core(used.get("cpu_seconds_per_gib")))
        for name in scenarios
        if name in document["scenarios"]
        for run_name, run in _runs(_of(document, name)["figures"])
        for process, used in run["processes"].items()
        if "cpu_seconds_per_gib" in used
    ]
    if not rows:
        return _NOT_MEASURED
    return _table(("scenario", "load", "process", "MB/s per core"), rows)


def _harness(document: Document, _: Sequence[str]) -> str:
    cost = document["machine"].get("harness")
    if not cost:
        return _NOT_MEASURED
    shares = [
        (f"CPU share of the generator: {scenario}, {name}", text(run["generator_cpu_share"]))
        for scenario, record in document["scenarios"].items()
        for name, run in _runs(record["figures"])
        if "generator_cpu_share" in run
    ]
    titles = (
        ("one reading of the clock, ns", "clock_ns"),
        ("one latency into the histogram, ns", "histogram_record_ns"),
        ("both, per chunk, µs", "per_chunk_us"),
    )
    return _table(("what", ""), [*((t, text(cost.get(key))) for t, key in titles), *shares])


def _capacity(document: Document, _: Sequence[str]) -> str:
    try:
        printed = command.output(document, command.KEPT_RUN, ())
    except NotMeasuredError:
        return _NOT_MEASURED
    return f"```console\n$ python -m bench.capacity\n{printed}\n```"


def _of(document: Document, scenario: str) -> Any:
    return document["scenarios"][scenario]


def _runs(figures: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every measurement with figures of its processes, named by its path in the figures."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            here = f"{path}, {name}" if path else name
            if "processes" in value:
                yield here.replace("_", " "), value
            elif name != "processes":
                yield from _runs(value, here)
    if not path and "processes" in figures:
        yield "all", figures


_RUN_FIGURES: Final = (
    ("MB/s", "mb_per_second"),
    ("ack p50, ms", "ack_p50_ms"),
    ("ack p95, ms", "ack_p95_ms"),
    ("ack p99, ms", "ack_p99_ms"),
    ("errors, %", "error_percent"),
    ("CPU of the generator", "generator_cpu_share"),
)
_PROCESS_FIGURES: Final = (
    ("CPU s per GiB", "cpu_seconds_per_gib"),
    ("peak MiB", "peak_resident_mib"),
    ("received MiB per GiB", "received_mib_per_gib"),
    ("sent MiB per GiB", "sent_mib_per_gib"),
)


def _run_table(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    return _table(
        ("load", *(title for title, _ in _RUN_FIGURES)),
        [(name, *(text(run.get(key)) for _, key in _RUN_FIGURES)) for name, run in runs],
    )


def _process_table(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    titles = ("load", "process", "MB/s per core", *(title for title, _ in _PROCESS_FIGURES))
    return _table(
        titles,
        [
            (
                name,
                process,
                _per_core(used.get("cpu_seconds_per_gib")),
                *(text(used.get(key)) for _, key in _PROCESS_FIGURES),
            )
            for name, run in runs
            for process, used in run["processes"].items()
        ],
    )


def _per_core(cpu_seconds_per_gib: object) -> str:
    """Return what one core of this process would carry: the inverse of its CPU seconds per GiB."""
    median = float(str(cpu_seconds_per_gib).partition(" ")[0].replace(",", "") or "nan")
    return f"{GIB / MB / median:,.0f}" if median > 0 else "–"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)


_BLOCKS: Final[Mapping[str, Callable[[Document, Sequence[str]], str]]] = {
    "run": _run,
    "gates": _gates,
    "layers": _layers,
    "phase": _phase,
    "order": _order,
    "throughput": _throughput,
    "cores": _cores,
    "harness": _harness,
    "capacity": _capacity,
}
