"""`python -m bench`: what it runs, what it writes, and when it fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import machine
from bench.backends import MissingBackendError
from bench.cpu_shares import default_share
from bench.figures import Spread
from bench.gates import GATES, Better, Gate, Result
from bench.report import document
from bench.report_check import report_problems
from bench.scenario import Effort, Outcome, Scenario, Series
from bench.scenarios import NAMES

Value = Callable[[Gate], float]


def at_the_aim(gate: Gate) -> float:
    return gate.aim


def far_off(gate: Gate) -> float:
    return -1.0 if gate.better is Better.HIGHER else 1e9


class Fake:
    """Scenarios with given results; `ran` has their names and efforts."""

    def __init__(self, value: Value = at_the_aim, failing: str = "") -> None:
        self.value = value
        self.failing = failing
        self.ran: list[str] = []
        self.efforts: list[Effort] = []

    def scenarios(self) -> Mapping[str, Scenario]:
        return {name: self._scenario(name) for name in NAMES}

    def _scenario(self, name: str) -> Scenario:
        def run(effort: Effort) -> Outcome:
            self.ran.append(name)
            self.efforts.append(effort)
            if name == self.failing:
                raise RuntimeError("the intake ended")
            results = [Result(gate, Spread.of([self.value(gate)])) for gate in GATES[name]]
            lines = Series("throughput", "one", [1, 2], [10.0, 20.0], "MB/s")
            # Drawing is slow: only one of them has a plot.
            return Outcome(results, {"rounds": effort.rounds}, [lines] if name == "P1" else [])

        return run

    def main(self, folder: Path, *arguments: str) -> int:
        return bench.main([*arguments, "--results", str(folder)], self.scenarios())


@pytest.fixture(scope="module", autouse=True)
def _no_machine_description() -> Iterator[None]:
    """Skip the description of the machine, which runs programs; test_report.py covers it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(machine, "describe", lambda: {"cpu": "none"})
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip plots and page where no test reads them: drawing is slow."""
    monkeypatch.setattr(bench, "publish", lambda report, folder: [document.write(report, folder)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a run of P1; read only."""
    folder = tmp_path_factory.mktemp("whole")
    assert Fake().main(folder, "--gate", "P1") == 0
    return folder


def written(folder: Path, name: str) -> document.Document:
    return document.read(document.json_path(name, folder))


def test_full_run_measures_every_gate_and_passes_when_all_do(tmp_path: Path) -> None:
    fake = Fake()
    assert fake.main(tmp_path) == 0
    assert fake.ran == list(NAMES)
    report = written(tmp_path, "bench")
    measured = {gate["name"] for gate in document.gates(report)}
    assert measured == {gate.name for gates in GATES.values() for gate in gates}
    assert report_problems("bench", NAMES, tmp_path) == []


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", [name for name in NAMES if any(g.must for g in GATES[name])])
def test_failed_gate_exits_1(name: str, tmp_path: Path) -> None:
    assert Fake(far_off).main(tmp_path, "--gate", name) == 1


@pytest.mark.usefixtures("undrawn")
def test_only_chosen_scenarios_run(tmp_path: Path) -> None:
    fake = Fake()
    assert fake.main(tmp_path, "--gate", "P3", "--gate", "P2", "--rounds", "9") == 0
    assert fake.ran == ["P3", "P2"]
    assert fake.efforts[0].rounds == 9
    assert set(written(tmp_path, "p3-p2")["scenarios"]) == {"P2", "P3"}


@pytest.mark.usefixtures("undrawn")
def test_core_share_applies_to_phase_comparisons_only(tmp_path: Path) -> None:
    fake = Fake()
    assert fake.main(tmp_path, "--gate", "P3", "--core-share", "0.4") == 0
    assert fake.efforts[0].core_share == 0.4
    # A report apart from runs with the default.
    assert set(written(tmp_path, "p3-core-share")["scenarios"]) == {"P3"}
    chosen = ["--core-share", "0.4"]
    for wrong in (chosen, ["--gate", "P1", *chosen], ["--gate", "P3", "--quick", *chosen]):
        with pytest.raises(SystemExit):
            fake.main(tmp_path, *wrong)
    with pytest.raises(SystemExit):
        fake.main(tmp_path, "--gate", "P3", "--core-share", "2")


@pytest.mark.usefixtures("undrawn")
def test_each_process_has_a_share_of_a_core_by_default(tmp_path: Path) -> None:
    """Where figures are judged; a quick run needs no cgroups."""
    fake = Fake()
    assert fake.main(tmp_path, "--gate", "P3") == 0
    fake.main(tmp_path, "--gate", "P3", "--quick")
    assert [effort.core_share for effort in fake.efforts] == [default_share(), None]


def test_interrupted_run_resumes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the intake ended"):
        Fake(failing="P3").main(tmp_path)
    assert set(written(tmp_path, "bench")["scenarios"]) == {"P1", "P2"}
    again = Fake()
    assert again.main(tmp_path, "--resume") == 0
    assert again.ran == [name for name in NAMES if name not in ("P1", "P2")]
    assert report_problems("bench", NAMES, tmp_path) == []


@pytest.mark.usefixtures("undrawn")
def test_another_commit_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Fake().main(tmp_path, "--gate", "P1") == 0
    monkeypatch.setattr(machine, "describe", lambda: {"cpu": "none", "commit": "another"})
    fake = Fake()
    assert fake.main(tmp_path, "--gate", "P1", "--resume") == 1
    assert fake.ran == []
    assert "this is another: measure again" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_ctrl_c_keeps_finished_scenarios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(effort: Effort) -> Outcome:
        raise KeyboardInterrupt

    chosen = ("--gate", "P1", "--gate", "P2", "--results", str(tmp_path))
    assert bench.main(chosen, {**Fake().scenarios(), "P2": interrupted}) == 130
    assert set(written(tmp_path, "p1-p2")["scenarios"]) == {"P1"}
    assert "run again with --resume" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_without_resume_the_run_restarts(tmp_path: Path) -> None:
    Fake().main(tmp_path, "--gate", "P1")
    fake = Fake()
    fake.main(tmp_path, "--gate", "P1")
    assert fake.ran == ["P1"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("arguments", "required", "code"),
    [((), "", 1), ((), "1", 1), (("--quick",), "1", 1), (("--quick",), "", 0)],
)
def test_missing_service_fails_the_run_after_the_others(
    arguments: tuple[str, ...],
    required: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLUICE_REQUIRE_SERVICES", required)

    def without_kafka(effort: Effort) -> Outcome:
        raise MissingBackendError("no Kafka runs here")

    scenarios = {**Fake().scenarios(), "P4": without_kafka}
    chosen = ("--gate", "P4", "--gate", "P1", "--results", str(tmp_path))
    monkeypatch.setattr(bench, "report_problems", lambda name, scenarios, folder: [])
    assert bench.main([*arguments, *chosen], scenarios) == code
    (name,) = (path.stem for path in tmp_path.glob("*.json"))
    assert set(written(tmp_path, name)["scenarios"]) == {"P1"}
    assert "P4 is not measured: no Kafka runs here" in capsys.readouterr().err


def test_scenario_that_omits_a_gate_is_an_error(tmp_path: Path) -> None:
    def forgetful(effort: Effort) -> Outcome:
        return Outcome([Result(GATES["P1"][0], Spread.of([1.0]))], {})

    scenarios = {**Fake().scenarios(), "P1": forgetful}
    with pytest.raises(RuntimeError, match="P1 did not measure P1-ack-1"):
        bench.main(["--gate", "P1", "--results", str(tmp_path)], scenarios)


def test_quick_run_judges_no_figure(tmp_path: Path) -> None:
    fake = Fake(far_off)
    assert fake.main(tmp_path, "--quick") == 0
    assert fake.efforts[0] == Effort.small()
    assert all(gate["passed"] is None for gate in document.gates(written(tmp_path, "bench-quick")))


def test_quick_run_fails_on_nan(tmp_path: Path) -> None:
    assert Fake(lambda gate: float("nan")).main(tmp_path, "--quick", "--gate", "P2") == 1


def test_full_run_does_more_than_a_quick_one() -> None:
    full, small = Effort.full(3), Effort.small()
    assert full.rounds >= 5
    assert full.rounds > small.rounds
    assert full.seconds > small.seconds
    assert full.sustained_seconds == 180
    assert Effort.full().sustained_seconds == 600
    assert not full.quick


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: (folder / "p1.html").unlink(), "not a complete page"),
        (lambda folder: (folder / "p1-throughput-P1.png").write_bytes(b"GIF8"), "not a picture"),
        (
            lambda folder: (folder / "p1.html").write_text(
                '<html><img src="https://somewhere.example/plot.png"></html>'
            ),
            "from outside",
        ),
        (lambda folder: change(folder, lambda record: record["gates"].pop()), "0 times"),
        (
            lambda folder: change(folder, lambda record: record["figures"].clear()),
            "have no figures",
        ),
        (lambda folder: change(folder, lambda r: r["series"][0]["y"].pop()), "2 x and 1 y"),
        (
            lambda folder: change(folder, lambda r: r["gates"][0].update({"minimum": 5e9})),
            "outside of its rounds",
        ),
    ],
)
def test_incomplete_report_is_detected(
    damage: Callable[[Path], object], problem: str, whole: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(whole, tmp_path / "results")
    assert report_problems("p1", ["P1"], folder) == []
    damage(folder)
    assert problem in " ".join(report_problems("p1", ["P1"], folder))


def test_report_without_a_scenario_is_detected(whole: Path) -> None:
    assert report_problems("p1", ["P1", "P2"], whole) == ["P2 is not in the report"]


def change(folder: Path, edit: Callable[[document.ScenarioRecord], object]) -> None:
    path = document.json_path("p1", folder)
    report = document.read(path)
    edit(report["scenarios"]["P1"])
    path.write_text(json.dumps(report), encoding="utf-8")
