"""Processes of a scenario."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer
from typing import IO, Any

from bench.usage import Usage, Watched
from tools.backends.ports import PortPicker

READY_SECONDS = 30.0
STOP_SECONDS = 30.0
LOAD_SECONDS = 900.0
_ports = PortPicker()
_KEEP_PAGES = {
    "MALLOC_MMAP_THRESHOLD_": str(1024**3),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 1024**2),
}
"""malloc settings of the services (sluice_common.process.malloc), for the load generators."""


class Server(Watched):
    """A server process that announced its address."""

    def __init__(self, pid: int, address: str) -> None:
        super().__init__(pid)
        self.address = address


def _environment(settings: Mapping[str, str] | None) -> dict[str, str]:
    """Return this process's environment without Sluice's settings and coverage, plus the scenario's
    settings. Coverage would take time and memory of the measured process.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SLUICE") and "COVERAGE" not in name
    }
    return {**inherited, **(settings or {})}


def _await_address(process: subprocess.Popen[bytes], ready: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} at start")
        if ready.exists() and (text := ready.read_text(encoding="utf-8")).endswith("\n"):
            return text.strip()
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} was not ready after {READY_SECONDS:g} s")


@contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server; stop it with SIGTERM at the end. Raise when it does not stop."""
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        _await_end(process)


def _await_end(process: subprocess.Popen[Any]) -> None:
    """Wait until the process has ended; kill it when that takes too long, or at a second Ctrl-C."""
    try:
        process.wait(STOP_SECONDS)
    except BaseException:
        process.kill()
        process.wait()
        raise


@contextmanager
def servers(
    programs: Sequence[Sequence[str]], settings: Mapping[str, str] | None = None
) -> Iterator[Sequence[Server]]:
    """Run Python programs that write their address to the file named by `--ready-file`, started
    concurrently.

    `settings` are added to the environment; SLUICE_… of this process is not passed on.
    """
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-"))
        begun = []
        for number, arguments in enumerate(programs):
            ready = Path(scratch) / f"ready-{number}"
            command = [sys.executable, *arguments, "--ready-file", str(ready)]
            begun.append((stack.enter_context(running(command, _environment(settings))), ready))
        yield [Server(process.pid, _await_address(process, ready)) for process, ready in begun]


@contextmanager
def server(arguments: Sequence[str], settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run one server."""
    with servers([arguments], settings) as (one,):
        yield one


def free_port() -> int:
    """Return a port for a server that cannot choose one itself.

    It is not one of the ephemeral ports: an outgoing connection could take such a port before the
    server listens.
    """
    return _ports.pick_one()


@contextmanager
def _generator(
    module: str,
    *arguments: str,
    limit_seconds: float,
    settings: Mapping[str, str] | None = None,
) -> Iterator[tuple[Callable[[], None], Callable[[], dict[str, Any]]]]:
    """Run a load generator until it is ready. Yield how to signal to it, and to read its figures.

    Its connections stay open until the block ends: closed ones cannot be inspected. A generator
    that has not ended after `limit_seconds` is killed, which is an error.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments, "--in-step"],
        env={**_environment(settings), **_KEEP_PAGES},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    limit = Timer(limit_seconds, process.kill)
    limit.start()

    def signal_it() -> None:
        stdin.write("\n")
        stdin.flush()

    try:
        _read_line(process, stdout)
        yield signal_it, lambda: _read_line(process, stdout)
    except BaseException:
        process.kill()
        raise
    finally:
        limit.cancel()
        stdin.close()
        stdout.close()
        _await_end(process)


@contextmanager
def loading(
    module: str,
    *arguments: str,
    watching: Mapping[str, Watched],
    limit_seconds: float = LOAD_SECONDS,
    settings: Mapping[str, str] | None = None,
) -> Iterator[tuple[dict[str, Any], Mapping[str, Usage]]]:
    """Run a load generator that knows `--in-step`. Yield its JSON and the watched processes' usage
    between the end of its warm-up and its last acknowledgement. `settings` as in `load`.
    """
    with _generator(module, *arguments, limit_seconds=limit_seconds, settings=settings) as (
        begin,
        read_figures,
    ):
        for watched in watching.values():
            watched.usage()
        begin()
        figures = read_figures()
        yield figures, {name: watched.usage() for name, watched in watching.items()}


@contextmanager
def beside(
    module: str, *arguments: str, limit_seconds: float = LOAD_SECONDS
) -> Iterator[dict[str, Any]]:
    """Run a load generator beside the block: the block begins when the generator is ready, and its
    end stops the generator. Then the yielded dictionary has its figures.
    """
    figures: dict[str, Any] = {}
    with _generator(module, *arguments, limit_seconds=limit_seconds) as (stop, read_figures):
        yield figures
        stop()
        figures |= read_figures()


def _read_line(process: subprocess.Popen[str], stdout: IO[str]) -> dict[str, Any]:
    if not (line := stdout.readline()):
        raise RuntimeError(f"{process.args!r} ended with {process.wait()} and without figures")
    figures: dict[str, Any] = json.loads(line)
    return figures


def load(module: str, *arguments: str, settings: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a load generator to its end. Return the JSON line that it prints.

    `settings` are added to its environment: passwords do not belong on a command line.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**_environment(settings), **_KEEP_PAGES},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=LOAD_SECONDS,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
