"""Lifecycle of real processes: signals, drain, exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

from sluice_common.process.lifecycle import configuration_failed
from sluice_core.configuration import ConfigurationError

PREAMBLE = """
import asyncio, sys
from sluice_core.configuration import ConfigurationError
from sluice_common.process.lifecycle import run_service
from sluice_common.settings import LogFormat, LogLevel
from sluice_common.telemetry.logging import configure_logging

configure_logging(LogLevel.INFO, LogFormat.JSON)

def say(text):
    print(text, flush=True)
"""


def start(body: str) -> subprocess.Popen[str]:
    """Start a process that runs the `main` in `body`."""
    program = f"{PREAMBLE}\n{textwrap.dedent(body)}\nsys.exit(run_service(main))"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def await_line(process: subprocess.Popen[str], expected: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_the_service_finish(number: signal.Signals) -> None:
    process = start(
        """
        async def main(stop):
            say("up")
            await stop.wait()
            say("clean")
        """
    )
    await_line(process, "up")
    process.send_signal(number)
    code, out, err = finish(process)
    assert (code, out) == (0, "clean\n")
    assert number.name in err


def test_a_second_signal_ends_it_at_once() -> None:
    process = start(
        """
        async def main(stop):
            say("up")
            await stop.wait()
            say("draining")
            await asyncio.sleep(60)
        """
    )
    await_line(process, "up")
    process.send_signal(signal.SIGTERM)
    await_line(process, "draining")
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, _, _ = finish(process)
    assert code == 128 + signal.SIGTERM
    assert time.monotonic() - began < 10


def test_a_bad_configuration_exits_78_with_one_line() -> None:
    process = start(
        """
        async def main(stop):
            raise ConfigurationError("SLUICE_X: cannot be")
        """
    )
    assert finish(process) == (78, "", "SLUICE_X: cannot be\n")


def test_configuration_error_is_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It may quote a backend, or a name in its certificate."""
    configuration_failed(ConfigurationError("SLUICE_X: \x1b]0;title\x07\x9b31m\nforged"))
    assert capsys.readouterr().err == "SLUICE_X: \\x1b]0;title\\x07\\x9b31m\\nforged\n"


def test_configuration_error_in_task_group_exits_78() -> None:
    process = start(
        """
        async def fail():
            raise ConfigurationError("SLUICE_X: cannot be")

        async def main(stop):
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        """
    )
    assert finish(process) == (78, "", "SLUICE_X: cannot be\n")


def test_a_defect_exits_1_and_is_in_the_log() -> None:
    process = start(
        """
        async def main(stop):
            raise ZeroDivisionError
        """
    )
    code, out, err = finish(process)
    assert (code, out) == (1, "")
    assert "ZeroDivisionError" in err
    assert "service.failed" in err


def test_services_run_on_uvloop() -> None:
    process = start(
        """
        async def main(stop):
            say(type(asyncio.get_running_loop()).__module__)
        """
    )
    assert finish(process)[:2] == (0, "uvloop\n")
