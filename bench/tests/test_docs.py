"""Figures in docs/ against the run kept beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.docs import DOCS, PAGES, publish, stale_pages
from bench.figures import Spread
from bench.gates import P1_ACK_ONE, P1_STREAM, P2_ERRORS, P3_REDIS, Gate, Result
from bench.report.document import Document, add, begin, write
from bench.report.markdown import UnknownBlockError, fill
from bench.scenario import Outcome, Series

PROCESSES = {
    "intake": {"cpu_seconds_per_gib": "0.50 [0.40 … 0.60]", "peak_resident_mib": "120"},
    "repository": {"cpu_seconds_per_gib": "0.00 [0.00 … 0.00]"},
}


def report(**gates: tuple[Gate, float]) -> Document:
    document = begin("made-up", {"cpu": "none", "harness": {"clock_ns": "50"}}, judged=True)
    for name, (gate, value) in gates.items():
        figures = {
            "phase 2": {"one_stream": {"mb_per_second": "900 [1]", "processes": PROCESSES}},
            "ratio": "1",
        }
        layer = Series("layers", name, ["raw TCP", name], [2000.0, 1000.0], "MB/s")
        add(document, name, Outcome([Result(gate, Spread.of([value]))], figures, [layer]), 1.0)
    return document


def block(name: str, document: Document) -> str:
    page = f"before\n<!-- figures: {name} -->\nold\n<!-- end of figures -->\nafter\n"
    text = fill(page, document)
    assert text.startswith(f"before\n<!-- figures: {name} -->\n")
    assert text.endswith("<!-- end of figures -->\nafter\n")
    assert "old" not in text
    assert fill(text, document) == text
    return text


def test_pages_show_the_kept_run() -> None:
    assert stale_pages() == []


def test_every_figure_of_the_phases_is_generated() -> None:
    page = (DOCS / "phases.md").read_text(encoding="utf-8")
    by_hand = re.sub(r"<!-- figures:.*?<!-- end of figures -->", "", page, flags=re.DOTALL)
    assert not re.search(r"\d[\d.,]* (MB/s|GB/s)", by_hand)


def test_unknown_block_is_an_error() -> None:
    with pytest.raises(UnknownBlockError, match="wishes"):
        block("wishes", report())


def test_phase_block_shows_date_gates_processes_and_core_rate() -> None:
    text = block("phase P3", report(P3=(P3_REDIS, 1.0)))
    assert "Measured 20" in text
    assert "| 1.00 [1.00 … 1.00] | ≥ 0.9 |" in text
    assert "| phase 2, one stream | intake | 2,147 | 0.50 [0.40 … 0.60] | 120 |" in text
    assert "| phase 2, one stream | repository | – |" in text


def test_throughput_is_a_table_of_concurrency() -> None:
    document = begin("made-up", {}, judged=True)
    lines = [
        Series("throughput", "1 MiB chunks", [1, 4], [100.4, 1234.5], "MB/s"),
        Series("throughput", "64 MiB chunks", [4], [900.0], "MB/s"),
    ]
    add(document, "MATRIX", Outcome([], {}, lines), 1.0)
    text = block("throughput MATRIX", document)
    assert "| MB/s at | 1 | 4 |" in text
    assert "| 1 MiB chunks | 100 | 1,234 |" in text
    assert "| 64 MiB chunks | – | 900 |" in text


def test_unmeasured_block_says_so() -> None:
    for name in ("phase P5", "gates SMALL", "throughput MATRIX", "layers", "cores P1"):
        assert "Not measured" in block(name, report())


def test_phase_counts_when_all_before_it_passed() -> None:
    text = block("order", report(P1=(P1_STREAM, 0.5), P2=(P2_ERRORS, 1.0), P3=(P3_REDIS, 1.0)))
    ends = [re.findall(r"[^|]+", line)[2:4] for line in text.splitlines() if line.startswith("| P")]
    assert [[cell.strip() for cell in end] for end in ends] == [
        ["passed", "yes"],
        ["FAIL", "no"],
        ["passed", "no"],
        ["not measured", "no"],
        ["not measured", "no"],
        ["not measured", "no"],
    ]


def test_publish_keeps_the_run_and_fills_the_pages(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for page in PAGES:
        (docs / page).write_text((DOCS / page).read_text(encoding="utf-8"), encoding="utf-8")
    publish(write(report(P1=(P1_ACK_ONE, 3.14)), tmp_path), docs)
    assert stale_pages(docs) == []
    assert "3.14 [3.14 … 3.14] ms" in (docs / "phases.md").read_text(encoding="utf-8")
    assert (docs / "bench" / "layers.png").stat().st_size > 0
    (docs / "phases.md").write_text(
        (docs / "phases.md").read_text(encoding="utf-8").replace("3.14", "1.14"), encoding="utf-8"
    )
    assert stale_pages(docs) == ["phases.md"]


def test_quick_run_is_not_published(tmp_path: Path) -> None:
    path = write(begin("quick", {}, judged=False), tmp_path)
    with pytest.raises(ValueError, match="quick run"):
        publish(path, tmp_path)
