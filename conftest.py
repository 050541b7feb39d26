"""Report of the servers that a test run uses, and selection of the `long` tests."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tools.backends import apicurio, s3_servers
from tools.backends.errors import ServiceError
from tools.backends.redis import find_server, version_of
from tools.changed_tests import changed_files, default_base, is_affected

_VERSIONS = {
    "MySQL": ("mariadbd", "--version"),
}
_ROOT = Path(__file__).parent
_FAULTS_ON_SERVICES = ("test_crash_points.py", "test_server_killed.py")

# Added to Hypothesis's own CI profile, which is deterministic: no deadline per example, because on
# a busy machine an example may exceed the default of 0.2 s.
settings.register_profile(
    "any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `long` the tests for `make check` only, and the tests of unchanged tooling.

    `long` are the tests marked `slow` or `measures`, the faults, the benchmark's tests, those in
    browsers, and the end-to-end tests on services, which run on the embedded adapters as well.
    Slow end-to-end tests that are no faults are left to the nightly run (`slow_fault`), because the
    embedded adapters cover them; so are slow and measuring tests in browsers, which take minutes.
    """
    unchanged = _unchanged({item.path for item in items if _folder(item.path) == "tooling"})
    for item in items:
        folder = _folder(item.path)
        slow = item.get_closest_marker("slow") is not None
        again = folder == "e2e" and "[services" in item.name
        measures = item.get_closest_marker("measures") is not None
        if slow and again and item.path.name not in _FAULTS_ON_SERVICES:
            item.add_marker(pytest.mark.slow_fault)
        pages = folder == "browsers"
        if pages and (slow or measures):
            item.add_marker(pytest.mark.slow_fault)
        fault = folder == "faults"
        if fault:
            item.add_marker(pytest.mark.fault)
        if slow or measures or again or fault or pages or folder == "bench":
            item.add_marker(pytest.mark.long)
        if item.path in unchanged:
            item.add_marker(pytest.mark.unchanged)


@cache
def _folder(file: Path) -> str:
    """Return the folder of a test: the one below tests/, or the one at the root."""
    if not file.is_relative_to(_ROOT):
        return ""
    first, *more = file.relative_to(_ROOT).parts
    return more[0] if first == "tests" else first


def _unchanged(tests: set[Path]) -> set[Path]:
    """Return the files of these tests of which this branch changes nothing that they depend on."""
    if not tests or not (_ROOT / ".git").exists():
        return set()
    names = changed_files(default_base())
    return {test for test in tests if not is_affected(test, names)}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave the tests and modules of this run out of garbage collections.

    They live to its end, and are 600,000 objects. Collections while they grow would be of no use;
    later, each full one, those that a test asks for included, would go through all of them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


class _FailuresAtOnce:
    """Prints the name of a failed test at once: an interrupted run prints no summary."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = (crash.message if crash else str(report.longrepr)).strip().splitlines()[:1]
            self._terminal.ensure_newline()
            self._terminal.write_line(f"failed: {report.nodeid}: {''.join(reason)}", red=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if isinstance(terminal, pytest.TerminalReporter):
        session.config.pluginmanager.register(_FailuresAtOnce(terminal))


def pytest_report_header() -> list[str]:
    """Return one line per server: its version, or that this machine has none."""
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    lines = []
    for name, (program, *arguments) in _VERSIONS.items():
        found = shutil.which(program, path=beside)
        version = "none"
        if found is not None:
            done = subprocess.run(
                [found, *arguments], capture_output=True, text=True, timeout=20, check=False
            )
            version = done.stdout.strip().splitlines()[0]
        lines.append(f"{name}: {version}")
    return [
        f"Redis: {_redis()}",
        *lines,
        f"S3: {_s3()}",
        f"Kafka: {_kafka()}",
        f"schema registry: {_registry()}",
        f"free: {_free()}",
    ]


def _redis() -> str:
    try:
        return version_of(find_server()[1])
    except ServiceError as error:
        return f"none: {error}"


def _s3() -> str:
    try:
        kind, program = s3_servers.find_server()
        return f"{kind} {s3_servers.version_of(kind, program)}"
    except ServiceError as error:
        return f"none: {error}"


def _registry() -> str:
    try:
        return apicurio.described()
    except ServiceError as error:
        return f"none: {error}"


def _kafka() -> str:
    folder = Path(os.environ.get("SLUICE_SERVICES_DIR", "var/services"))
    try:
        kafka = json.loads((folder / "services.json").read_text(encoding="utf-8"))["kafka"]
    except (OSError, KeyError):
        return "none; `make services-up` starts one"
    return f"{kafka['kind']} {kafka['version']} at {kafka['bootstrap_servers']}"


def _free() -> str:
    """Return the free disk space: a full disk fails tests in ways that do not name it."""
    folder = tempfile.gettempdir()
    return f"{shutil.disk_usage(folder).free / 1024**3:.0f} GiB in {folder}"
