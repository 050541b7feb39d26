"""Parent-death handling: a worker stops when the process that started it ends."""

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


def stop_with_parent(parent: int, stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM, which the kernel also sends when the parent dies, even by kill -9.

    The parent-death signal is Linux only. Elsewhere workers stop when the parent is stopped, but
    not when it is killed.

    A repeated SIGTERM exits at once only if the parent is gone: a supervisor may signal every
    process of a service, and the parent forwards its own signal as well.
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
    if os.getppid() != parent:  # it ended before prctl took effect
        os.kill(os.getpid(), signal.SIGTERM)
