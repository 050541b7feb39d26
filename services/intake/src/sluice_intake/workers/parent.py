"""A worker does not outlive the process that started it."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from typing import Final

import structlog

_PR_SET_PDEATHSIG: Final = 1

_log = structlog.get_logger(__name__)


def end_with_parent(parent: int, stop: asyncio.Event) -> None:
    """From now on the end of the parent, kill -9 included, is a SIGTERM to this process.

    Linux only; elsewhere workers end when the parent is stopped, and not when it is killed.

    A repeated SIGTERM ends the process at once only if the parent has gone: a supervisor may
    signal every process of a service, and the parent passes on its own signal besides.
    """

    def on_terminate() -> None:
        if stop.is_set() and os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)
        if not stop.is_set():
            _log.info("service.stopping", signal="SIGTERM")
            stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_terminate)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before it was watched
        os.kill(os.getpid(), signal.SIGTERM)
