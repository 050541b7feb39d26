"""Lifecycle of a service process: event loop, stop signals, exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
import uvloop

from sluice_common.process.garbage_collection import tune_collector
from sluice_common.telemetry.redaction import redact
from sluice_common.telemetry.terminal import printable
from sluice_core.configuration import EXIT_CONFIGURATION, ConfigurationError

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BROKEN_PIPE: Final = 141
"""128 + SIGPIPE, as a shell reports it."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger(__name__)

Main = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def run_service(main: Main, *, quiet_interrupt: bool = False) -> int:
    """Run `main` under uvloop and return the exit code of the process.

    The first SIGTERM or SIGINT sets the event that `main` receives; `main` then returns. A second
    signal exits the process at once.

    Args:
        quiet_interrupt: do not log SIGINT, because `main` reports it to the user itself; SIGTERM
            of an orchestrator is always logged.
    """
    tune_collector()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_with_signals(main, quiet_interrupt=quiet_interrupt))
    except Exception as error:  # noqa: BLE001 - the outermost handler of the process
        if (unusable := _configuration_error(error)) is not None:
            return configuration_failed(unusable)
        _log.exception("service.failed")
        return EXIT_FAILED
    return EXIT_OK


def output_closed() -> int:
    """Return the exit code of a command whose reader has exited, as `head` does.

    Without this, Python reports an error at exit, when it flushes what is left.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_BROKEN_PIPE


def configuration_failed(error: ConfigurationError) -> int:
    """Print a configuration error in one line; return the exit code."""
    sys.stderr.write(redact(printable(str(error))) + "\n")
    return EXIT_CONFIGURATION


def _configuration_error(error: BaseException) -> ConfigurationError | None:
    """Return the error, or the first of a group that contains only configuration errors."""
    if isinstance(error, BaseExceptionGroup):
        inner = [_configuration_error(each) for each in error.exceptions]
        return inner[0] if all(inner) else None
    return error if isinstance(error, ConfigurationError) else None


async def _with_signals(main: Main, *, quiet_interrupt: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        note = _log.debug if quiet_interrupt and number is signal.SIGINT else _log.info
        note("service.stopping", signal=number.name)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await main(stop)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
