"""A worker does not outlive the process that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent: int) -> None:
    """From now on the end of the parent, kill -9 included, is a SIGTERM to this process.

    Linux only; elsewhere workers end when the parent is stopped, and not when it is killed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before it was watched
        os.kill(os.getpid(), signal.SIGTERM)
