"""`make bench`: run the scenarios, print the table, write the report; exit 1 when a gate fails."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench import machine
from bench.backends import MissingBackendError
from bench.cpu_shares import SharesUnavailableError, default_share
from bench.gates import GATES
from bench.measurement import say
from bench.report import document
from bench.report.document import Document
from bench.report.publish import publish
from bench.report.table import table
from bench.report_check import report_problems
from bench.scenario import Effort, Outcome, Scenario
from bench.scenarios import NAMES, SCENARIOS
from bench.slow_intake import SLOW_MS

INTERRUPTED: Final = 128 + signal.SIGINT
"""The convention of shells."""


_SHARED: Final = ("P3", "P4")
"""Scenarios that compare phases with different numbers of processes."""


class ResumeError(Exception):
    """The interrupted run measured something else."""


def check(name: str, outcome: Outcome) -> None:
    """Raise RuntimeError when a scenario has not measured each of its gates."""
    measured = {result.gate for result in outcome.results}
    if left_out := [gate.name for gate in GATES[name] if gate not in measured]:
        raise RuntimeError(f"{name} did not measure {', '.join(left_out)}")


def run(
    report: Document,
    chosen: Sequence[str],
    effort: Effort,
    folder: Path,
    scenarios: Mapping[str, Scenario],
) -> list[str]:
    """Run the scenarios that the report lacks; write the report after each.

    Return what could not be measured because a service is missing, with the reason.
    """
    missing = []
    for number, name in enumerate(chosen, 1):
        if name in report["scenarios"]:
            say(f"{name}: measured before")
            continue
        say(f"{name}: scenario {number} of {len(chosen)}")
        begun = time.perf_counter()
        try:
            outcome = scenarios[name](effort)
        except (MissingBackendError, SharesUnavailableError) as error:
            missing.append(f"{name} is not measured: {error}")
            continue
        check(name, outcome)
        seconds = time.perf_counter() - begun
        document.add(report, name, outcome, seconds)
        document.write(report, folder)
        say(f"{name}: measured in {seconds:.0f} s")
    return missing


_SAME: Final = ("commit", "cpu", "cores", "kernel", "packages")
"""Facts that a resumed run must share with the interrupted one."""


def _begin(options: argparse.Namespace, name: str) -> Document:
    """Return a new report, or that of the interrupted run.

    Raise ResumeError when that run was of another machine or commit: figures of both would share
    one name.
    """
    now = machine.describe()
    path = document.json_path(name, options.results)
    if options.resume and path.exists():
        report = document.read(path)
        for fact in _SAME:
            if report["machine"].get(fact) != now.get(fact):
                raise ResumeError(
                    f"{path} was measured with {fact} {report['machine'].get(fact)}, this is "
                    f"{now.get(fact)}: measure again, without --resume"
                )
        return report
    return document.begin(name, now, judged=not options.quick)


def _name(options: argparse.Namespace) -> str:
    """Return the report's name: "bench" for a full run, else the names of its scenarios."""
    gates = "-".join(name.lower() for name in options.gate) or "bench"
    marks = {"quick": options.quick, "slowed": options.slow_ms, "core-share": options.core_share}
    return "-".join([gates, *(mark for mark, on in marks.items() if on)])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "--gate", choices=("all", *NAMES), action="append", help="repeatable; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, figures not judged")
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="how long each phase of SUSTAINED lasts"
    )
    parser.add_argument("--rounds", type=int, help="instead of five")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument("--results", type=Path, default=document.RESULTS, help="folder of reports")
    parser.add_argument(
        "--slow-ms",
        type=float,
        default=0.0,
        help="hold every chunk up for so long, to see that gates fail",
    )
    parser.add_argument(
        "--core-share",
        type=float,
        help=f"share of a core that each process has for itself in {' and '.join(_SHARED)}, by "
        f"cgroups (as root); default on this machine: {default_share():g}",
    )
    options = parser.parse_args(arguments)
    options.gate = [name for name in options.gate or () if name != "all"]
    if options.core_share is not None and not (options.gate and {*options.gate} <= {*_SHARED}):
        parser.error(f"--core-share is for --gate {' and --gate '.join(_SHARED)}")
    if options.core_share is not None and not 0 < options.core_share <= 1:
        parser.error("--core-share is more than 0 and at most 1")
    if options.core_share is not None and options.quick:
        parser.error("--core-share has no effect with --quick, which judges no figure")
    return options


def main(
    arguments: Sequence[str] | None = None, scenarios: Mapping[str, Scenario] = SCENARIOS
) -> int:
    """Return the exit code: 1 when a gate failed or could not be measured, or when a quick run left
    an incomplete report.

    `--resume` continues an interrupted run of the same name after its last finished scenario. A
    quick run checks that everything works and judges no figure.
    """
    # As an exception, so that the scenario stops its processes; SIGHUP: the terminal was closed.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    options = parse(arguments)
    if options.slow_ms:
        os.environ[SLOW_MS] = str(options.slow_ms)
    effort = Effort.small() if options.quick else Effort.full(options.minutes)
    if not options.quick:
        effort = replace(effort, core_share=options.core_share or default_share())
    if options.rounds:
        effort = replace(effort, rounds=options.rounds)
    try:
        report = _begin(options, _name(options))
    except ResumeError as error:
        say(str(error))
        return 1
    chosen = options.gate or NAMES
    try:
        missing = run(report, chosen, effort, options.results, scenarios)
    except KeyboardInterrupt:
        say("interrupted; run again with --resume to continue")
        return INTERRUPTED
    finally:
        if report["scenarios"]:
            print(table(document.gates(report)))
            for path in publish(report, options.results):
                say(f"written: {path}")
    failed = document.failures(report)
    if options.quick and report["scenarios"]:
        failed += report_problems(report["name"], [*report["scenarios"]], options.results)
    for each in missing:
        say(each)
    # On a developer's machine, a quick run passes without every service; CI requires them all.
    if not options.quick or os.environ.get("SLUICE_REQUIRE_SERVICES") == "1":
        failed += missing
    for each in failed:
        say(f"failed: {each}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
