"""Report of a run: well formed, with failures, complete in one page."""

from __future__ import annotations

import base64
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench import machine
from bench.figures import Spread
from bench.gates import P1_ACK_ONE, P1_STREAM, P1_UNARY_TIME, Result
from bench.report.document import Document, add, begin, failures, gates, read, write
from bench.report.layers import layers
from bench.report.plots import draw
from bench.report.publish import publish
from bench.report.table import table
from bench.scenario import Outcome, Series

PNG = b"\x89PNG\r\n\x1a\n"
PASSES = Result(P1_STREAM, Spread.of([0.44, 0.47, 0.48]))
FAILS = Result(P1_ACK_ONE, Spread.of([25.0]))
LINES = (
    Series("throughput", "1 MiB <chunks>", [1, 2, 4], [100.0, 180.0, 240.0], "MB/s"),
    Series("latency", "1 stream", [0.0, 50.0, 99.0, 100.0], [0.5, 1.0, 4.0, 9.0], "ms"),
    Series("memory", "intake", [0.0, 1.0], [90.0, 91.0], "MiB"),
)
LAYERS = (
    Series("layers", "P1", ["raw TCP", "phase 1"], [4000.0, 2000.0], "MB/s"),
    Series("layers", "echo", ["raw TCP", "gRPC echo", "phase 1"], [8000.0, 5000.0, 4000.0], "MB/s"),
    Series("layers", "P2 beside the limit", ["raw TCP", "phase 2"], [6000.0, 1500.0], "MB/s"),
    Series("layers", "P2, on a busy machine", ["phase 1", "phase 2"], [1000.0, 250.0], "MB/s"),
    Series("layers", "P5", ["phase 5"], [100.0], "MB/s"),
)


def report(*results: Result, series: tuple[Series, ...] = (), judged: bool = True) -> Document:
    document = begin("made-up", {"cpu": "none", "packages": {"grpcio": "1"}}, judged=judged)
    add(document, "P1", Outcome(results, {"rounds": 3, "rates": {"tcp": 1.5}}, series), 2.5)
    return document


def test_gate_that_missed_its_bound_is_a_failure_and_says_so() -> None:
    document = report(PASSES, FAILS)
    assert failures(document) == ["P1-ack-1"]
    passed, failed = table(gates(document)).splitlines()[1:]
    assert "pass" in passed
    assert "FAIL" not in passed
    assert "FAIL" in failed


def test_quick_run_judges_nothing() -> None:
    document = report(FAILS, judged=False)
    assert failures(document) == []
    assert gates(document)[0]["passed"] is None
    assert "not judged" in table(gates(document))


def test_missed_aim_without_a_bound_is_no_failure() -> None:
    document = report(Result(P1_UNARY_TIME, Spread.of([30.0])))
    assert failures(document) == []
    assert "aim missed" in table(gates(document))


def test_nan_fails_and_can_be_written(tmp_path: Path) -> None:
    document = report(Result(P1_STREAM, Spread.of([math.nan])))
    assert failures(document) == ["P1-stream"]
    assert "no number" in table(gates(document))
    assert "FAIL" in table(gates(document))
    assert gates(read(write(document, tmp_path)))[0]["median"] is None


def test_written_report_is_read_back(tmp_path: Path) -> None:
    document = report(PASSES, FAILS, series=LINES + LAYERS)
    path = write(document, tmp_path)
    assert read(path) == document
    assert [file.name for file in tmp_path.iterdir()] == ["made-up.json"]


def test_report_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"gates": []}), encoding="utf-8")
    with pytest.raises(ValueError, match="measure again"):
        read(path)


def test_layer_is_compared_within_one_scenario() -> None:
    rates = {layer.name: layer.rate for layer in layers(report(series=LAYERS))}
    assert rates == {
        "raw TCP": 6000.0,
        "gRPC echo": 3750.0,
        "phase 1": 3000.0,
        "phase 2": 750.0,
        "phase 5": 100.0,
    }
    assert list(rates) == ["raw TCP", "gRPC echo", "phase 1", "phase 2", "phase 5"]


def test_costs_of_the_layers_add_up_to_that_of_the_last() -> None:
    steps = layers(report(series=LAYERS))
    whole = 1024**2 / (steps[-1].rate * 1e6) * 1e6
    assert sum(step.added_us_per_mib for step in steps) == pytest.approx(whole)


def test_every_series_becomes_a_picture() -> None:
    pictures = draw(report(series=LINES + LAYERS))
    assert set(pictures) == {"layers", "throughput-P1", "latency-P1", "memory-P1"}
    assert all(png.startswith(PNG) for png in pictures.values())


def test_run_without_series_has_no_pictures_and_still_a_page(tmp_path: Path) -> None:
    paths = publish(report(PASSES), tmp_path)
    assert [path.suffix for path in paths] == [".json", ".html"]


class Page(HTMLParser):
    """The text of a page and the resources that it requests."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_page_is_self_contained_and_complete(tmp_path: Path) -> None:
    """It shows gates, plots and machine."""
    *_, html = publish(report(PASSES, FAILS, series=LINES + LAYERS), tmp_path)
    text = html.read_text(encoding="utf-8")
    page = Page(text)
    shown = " ".join(page.words)
    assert page.open == []
    assert len(page.addresses) == 4
    for address in page.addresses:
        assert base64.b64decode(address.removeprefix("data:image/png;base64,")).startswith(PNG)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "1 of 2 gates failed: P1-ack-1." in shown
    assert "packages.grpcio" in shown
    assert "rates.tcp" in shown


def test_plots_of_an_earlier_run_are_deleted(tmp_path: Path) -> None:
    publish(report(PASSES, series=LINES), tmp_path)
    publish(report(PASSES, series=LINES[:1]), tmp_path)
    assert [path.name for path in tmp_path.glob("*.png")] == ["made-up-throughput-P1.png"]


def test_machine_is_described_without_secrets() -> None:
    text = json.dumps(machine.describe())
    assert json.loads(text)["cores"] >= 1
    assert not re.search(r"password|secret|key\"", text, re.IGNORECASE)
