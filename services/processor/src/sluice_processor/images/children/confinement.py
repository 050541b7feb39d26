"""Confinement of decoder children on Linux: resource limits, prctl and Landlock."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import struct
import sys
from typing import Final

from sluice_processor.images.model import ImageOptions

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
"""linux/prctl.h"""

_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1
"""linux/landlock.h; the numbers of the system calls are the same on every architecture."""
_FILE_RIGHTS: Final = ((1, 13), (2, 14), (3, 15), (5, 16))
"""(ABI version, number of file access rights since that version)."""
_PATH_BENEATH: Final = 1
_READ: Final = 1 << 2 | 1 << 3
"""Files and folders."""
_NETWORK_RIGHTS: Final = 0b11
_NETWORK_SINCE: Final = 4

_OPEN_FILES: Final = 16
_GRACE_SECONDS: Final = 5.0


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends.

    Raise `RuntimeError` when the parent has ended already.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise RuntimeError("the parent process has ended")


def confine(options: ImageOptions) -> None:
    """Limit memory and descriptors; drop file access, privileges and core dumps.

    Call it before the first picture is read. The resource limits always hold; Landlock applies
    only where the kernel supports it.
    """
    _limit(resource.RLIMIT_AS, options.child_memory_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _close_file_system()


def limit_time(options: ImageOptions) -> None:
    """Limit the processor time of the next picture, with a wall-clock alarm as a fallback."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    # RLIMIT_CPU has a resolution of whole seconds, and a decoder cannot disarm it.
    seconds = math.ceil(used.ru_utime + used.ru_stime + options.cpu_seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
    if options.cpu_seconds > 0:
        signal.setitimer(signal.ITIMER_PROF, options.cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, options.wall_seconds + _GRACE_SECONDS)


def clear_time_limit() -> None:
    """Disarm the timers of `limit_time`."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _close_file_system() -> None:
    """Deny files and connections with Landlock; no-op where the kernel lacks it.

    The folders of `sys.path` stay readable: Pillow and Python import some modules lazily.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return
    files = max(bits for since, bits in _FILE_RIGHTS if version >= since)
    network = _NETWORK_RIGHTS if version >= _NETWORK_SINCE else 0
    rules = struct.pack("=QQ", (1 << files) - 1, network)
    length = len(rules) if version >= _NETWORK_SINCE else 8
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, rules, length, 0)
    if ruleset < 0:
        return
    for folder in sys.path:
        if os.path.isdir(folder):
            beneath = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", _READ, beneath)
            libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
            os.close(beneath)
    libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
