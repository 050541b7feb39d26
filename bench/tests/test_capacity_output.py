"""Output of the capacity model, the sources of its figures, and the page that shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from bench.capacity.__main__ import main
from bench.capacity.command import KEPT_RUN, ROOT, output
from bench.capacity.costs import NotMeasuredError, checks, read_costs
from bench.capacity.facts import ADMISSIONS, BUDGET_CALL, FACTS, HASHING, Basis, Fact
from bench.capacity.shipped import read_shipped
from bench.report.document import Document, read, write
from tools.deploy_checks.policies.resources import INTAKE_MIB, STREAM_MIB

RUN = read(ROOT / KEPT_RUN)
CHECK_TOLERANCE = 0.25
"""Rounds of one load differ by a fifth in the same run (repository, PHOTOS)."""


def printed(*arguments: str, document: Document = RUN) -> str:
    return output(document, KEPT_RUN, arguments)


def data(*arguments: str, document: Document = RUN) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed("--json", *arguments, document=document))
    return found


def changed(path: str, value: object) -> Document:
    """Return the run with one figure replaced; None removes it."""
    document = deepcopy(RUN)
    *parents, last = path.split(".")
    place: Any = document["scenarios"]
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


def test_page_shows_what_the_program_prints() -> None:
    program = subprocess.run(
        [sys.executable, "-m", "bench.capacity"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert f"$ python -m bench.capacity\n{program.stdout}```" in page


def test_costs_are_read_from_the_run() -> None:
    dear = changed("SMALL.figures.sluice.processes.intake.cpu_seconds_per_gib", "29.0 [28 … 30]")
    before, after = read_costs(RUN), read_costs(dear)
    assert after.services["intake"].seconds_per_file > 5 * (
        before.services["intake"].seconds_per_file
    )
    assert after.services["redis"] == before.services["redis"]
    assert (
        data(document=dear)["plans"][0]["needs"]["intake"]["count"]
        > data()["plans"][0]["needs"]["intake"]["count"]
    )


@pytest.mark.parametrize(
    "path",
    [
        "P6",
        "SMALL.figures.file_bytes",
        "PHOTOS.figures.sluice.processes.kafka",
        "THUMBNAILS.figures.photos_per_second_and_core",
        "OPEN",
    ],
)
def test_missing_figure_is_an_error(path: str) -> None:
    with pytest.raises(NotMeasuredError, match=path.partition(".")[0]):
        printed(document=changed(path, None))


def test_model_predicts_a_load_that_it_was_not_made_from() -> None:
    found = checks(RUN, read_costs(RUN))
    assert {check.service for check in found} == {"intake", "repository", "redis", "mysql"}
    assert all(abs(check.error) <= CHECK_TOLERANCE for check in found), found


def test_gateway_is_counted_once_a_run_has_it() -> None:
    gateway = {
        "measured_at": "",
        "seconds": 1.0,
        "series": [],
        "gates": [{"name": "gateway-photos", "median": 20.0}],
        "figures": {
            "photos": 100,
            "processes": {
                "gateway 1": {"cpu_percent": "20.0 [19 … 21]"},
                "gateway 2": {"cpu_percent": "30.0 [29 … 31]"},
                "database": {"cpu_percent": "90.0 [80 … 95]"},
            },
        },
    }
    without = deepcopy(RUN)
    without["scenarios"].pop("GATEWAY", None)
    assert data(document=without)["plans"][0]["needs"]["gateway"] is None
    row = "gateway, all photos by it: pods"
    assert f"{row}        not measured" in printed(document=without)
    document = changed("GATEWAY", gateway)
    assert read_costs(document).gateway_seconds == pytest.approx(0.5 * 20 / 100)
    assert data(document=document)["plans"][0]["needs"]["gateway"]["count"] >= 1


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.name)
def test_copied_figure_is_in_its_source(fact: Fact) -> None:
    """What is measured or read off a document of the repository is still there."""
    if fact.quote:
        source = (ROOT / fact.source).read_text(encoding="utf-8")
        assert fact.quote in " ".join(source.split())
        return
    assert fact.basis is not Basis.MEASURED
    assert fact.source.startswith("https://") is (fact.basis is Basis.VENDOR)


def test_copied_value_is_that_of_its_quote() -> None:
    hashing = re.search(r"takes (\S+) instead of (\S+) ", HASHING.quote)
    assert hashing is not None
    assert HASHING.value == pytest.approx(float(hashing[1]) - float(hashing[2]))
    microseconds = BUDGET_CALL.quote.split("|")[3]
    assert BUDGET_CALL.value == pytest.approx(float(microseconds) / 1e6)
    assert ADMISSIONS.value == 3
    assert "three steps" in ADMISSIONS.quote


def test_intake_memory_is_that_of_the_manifests_policy() -> None:
    by_name = {fact.name: fact.value for fact in FACTS}
    assert by_name["memory of an intake without load"] == INTAKE_MIB
    assert by_name["memory of a sending stream beyond its window"] == STREAM_MIB


def test_defaults_are_read_from_the_manifests(tmp_path: Path) -> None:
    shipped = read_shipped()
    base = tmp_path / "base"
    for path in (ROOT / "deploy" / "k8s" / "base").rglob("*.yaml"):
        own = base / path.relative_to(ROOT / "deploy" / "k8s" / "base")
        own.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8")
        own.write_text(text.replace("maxReplicas: 20", "maxReplicas: 77"), encoding="utf-8")
    assert shipped.max_pods["intake"] == 20
    assert read_shipped(base).max_pods["intake"] == 77


def test_text_and_json_show_the_same_counts() -> None:
    text = printed("--gb-per-second", "3")
    needs = data("--gb-per-second", "3")["plans"][0]["needs"]
    cells = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    for row, name in (
        ("intake: pods", "intake"),
        ("processor: pods", "processor"),
        ("Kafka: partitions", "partitions"),
        ("Redis: servers, each a shard", "redis"),
    ):
        assert cells[row][-2] == f"{needs[name]['count']:,}"


def test_options_change_the_result() -> None:
    def pods(*arguments: str) -> int:
        found = data("--gb-per-second", "10", *arguments)["plans"][0]["needs"]["processor"]
        return int(found["count"])

    assert pods("--core-share", "2") < pods() < pods("--headroom", "0.6")
    assert pods("--mean-file-bytes", "100e6") < pods()
    assert pods("--photo-share", "0") == 0
    assert (
        data("--objects", "2e9")["plans"][0]["needs"]["catalogue_bytes"]
        == 2 * (data()["plans"][0]["needs"]["catalogue_bytes"])
    )


def test_each_size_says_what_breaks_first() -> None:
    lines = printed().splitlines()
    for size in ("1 GB/s", "10 GB/s", "100 GB/s"):
        (line,) = (each for each in lines if each.startswith(f"{size} breaks first: "))
        plan = data("--gb-per-second", size.split()[0])["plans"][0]
        assert plan["limits"][0]["name"] in line
    assert "nothing breaks" in printed("--gb-per-second", "0.001")


def test_what_is_assumed_is_named() -> None:
    text = printed()
    for fact in FACTS:
        assert fact.name in text
    assert "(assumed" in text
    assert "Not in the model, because it was not measured:" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("--gb-per-second", "0"),
        ("--gb-per-second", "nan"),
        ("--objects", "-1"),
        ("--mean-file-bytes", "0"),
        ("--photo-share", "2"),
        ("--core-share", "0"),
        ("--headroom", "1"),
        ("--integrity", "md5"),
    ],
)
def test_bad_argument_is_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(arguments)
    assert exit_code.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_unusable_run_ends_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = write({**RUN, "judged": False}, tmp_path)
    empty = write({**RUN, "name": "empty", "scenarios": {}}, tmp_path)
    for path, reason in (
        (quick, "quick run"),
        (empty, "is not in the run"),
        (tmp_path / "none.json", "No such file"),
    ):
        assert main(["--report", str(path)]) == 1
        assert reason in capsys.readouterr().err
