"""Tell glibc's malloc to keep large buffers: fresh pages cost more than the copy into them.

gRPC allocates and frees a buffer for every message. By default glibc gives buffers of this size
straight back to the kernel, which then has to zero new pages for the next one. Measured on the
unary way of 16 MiB chunks this halves throughput.

Imports nothing but the standard library: `tune_malloc` must run before grpc is first imported.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

TRIM_VARIABLE = "SLUICE_MALLOC_TRIM_BYTES"
DEFAULT_TRIM_BYTES = 128 * 1024 * 1024
"""Free memory at the top of the heap beyond this returns to the kernel.

Chosen by measurement: one caller of 16 MiB unary chunks, two cores, MB/s at 16 / 64 / 128 / 256 /
512 MiB: 440 / 870 / 945 / 940 / 915; without tuning 450. Beyond 128 MiB only memory grows.
"""

_ARENAS = 1
"""Each arena keeps freed memory of its own. The threads of a service take turns under the
interpreter's lock anyway, and one arena keeps a third less memory under load."""

_GLIBC_VARIABLES = (
    *("MALLOC_ARENA_MAX", "MALLOC_ARENA_TEST", "MALLOC_CHECK_", "MALLOC_MMAP_MAX_"),
    *("MALLOC_MMAP_THRESHOLD_", "MALLOC_PERTURB_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"),
)
"""Not every MALLOC_…: jemalloc's MALLOC_CONF, say, is meant for another program."""

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MMAP_THRESHOLDS = (1 << 30, 32 << 20)
"""glibc before 2.35 refuses more than 32 MiB on 64-bit machines."""
_INT_MAX = 2**31 - 1
_MADV_HUGEPAGE = 14
_HUGE_PAGE_BYTES = 2 << 20
_ASK_BYTES = 1 << 20
"""More than is free in the heap of a process that has only just begun, so that the heap grows."""


def tune_malloc(environment: Mapping[str, str] = os.environ) -> bool:
    """Raise the thresholds of this process; whether it was done.

    Does nothing on a libc without `mallopt`. What glibc's own MALLOC_… variables say is left
    alone; SLUICE_MALLOC_TRIM_BYTES=0 switches the tuning off.
    """
    trim = _trim_bytes(environment)
    if trim == 0 or any(name in environment for name in _GLIBC_VARIABLES):
        return False
    try:
        libc = ctypes.CDLL(None)
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt.restype = ctypes.c_int
    mallopt(_M_ARENA_MAX, _ARENAS)
    kept = any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in _MMAP_THRESHOLDS)
    tuned = bool(mallopt(_M_TRIM_THRESHOLD, trim)) and kept
    if tuned:
        mallopt(_M_TOP_PAD, trim)  # the heap grows by this much at once, and shrinks no further
        _back_with_huge_pages(libc)
    return tuned


def _back_with_huge_pages(libc: ctypes.CDLL) -> None:
    """Let the heap grow by its padding, and ask the kernel for huge pages under what is new.

    Every block goes through three buffers of its size; with small pages the processor looks up
    three quarters of a thousand translations for each. Only addresses are reserved: a page
    costs memory once it is written to. A kernel without huge pages, or whose owner has switched
    them off, refuses, and nothing else changes.
    """
    libc.sbrk.argtypes, libc.sbrk.restype = (ctypes.c_ssize_t,), ctypes.c_void_p
    libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = (ctypes.c_void_p,), None
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    old_end = libc.sbrk(0)
    libc.free(libc.malloc(_ASK_BYTES))
    start = -(-old_end // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
    size = (libc.sbrk(0) - start) // _HUGE_PAGE_BYTES * _HUGE_PAGE_BYTES
    if size > 0:
        libc.madvise(start, size, _MADV_HUGEPAGE)


def _trim_bytes(environment: Mapping[str, str]) -> int:
    """The threshold asked for; a value that is no number is as good as none, because nothing can
    be reported before logging is set up."""
    text = environment.get(TRIM_VARIABLE, "")
    return min(int(text), _INT_MAX) if text.isascii() and text.isdigit() else DEFAULT_TRIM_BYTES
