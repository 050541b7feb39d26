"""Tuning of glibc's malloc for large message buffers."""

# Import only the standard library here: `tune_malloc` runs before grpc is imported.

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

TRIM_VARIABLE = "SLUICE_MALLOC_TRIM_BYTES"
DEFAULT_TRIM_BYTES = 128 * 1024 * 1024
"""Free memory at the top of the heap above this is returned to the kernel.

Chosen by measurement: one caller of 16 MiB unary chunks, two cores, MB/s at 16 / 64 / 128 / 256 /
512 MiB: 440 / 870 / 945 / 940 / 915; without tuning 450. Beyond 128 MiB only memory grows.
"""

_ARENAS = 1
"""Every arena caches freed memory. The GIL serializes the threads of a service anyway, and one
arena keeps a third less memory under load."""

_GLIBC_VARIABLES = (
    *("MALLOC_ARENA_MAX", "MALLOC_ARENA_TEST", "MALLOC_CHECK_", "MALLOC_MMAP_MAX_"),
    *("MALLOC_MMAP_THRESHOLD_", "MALLOC_PERTURB_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"),
)
"""Only glibc's variables: MALLOC_CONF, for example, is jemalloc's."""

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
"""More than the free heap of a process at its start, so that the heap grows."""


def tune_malloc(environment: Mapping[str, str] = os.environ) -> bool:
    """Raise malloc's thresholds, so that freed buffers are reused; return whether it was done.

    gRPC allocates and frees a buffer for every message. By default glibc returns buffers of this
    size to the kernel, which must zero new pages for the next one; this halves the throughput of
    unary 16 MiB chunks. No-op on a libc without `mallopt`, if a MALLOC_… variable of glibc is set,
    and with SLUICE_MALLOC_TRIM_BYTES=0.
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
        mallopt(_M_TOP_PAD, trim)  # the heap grows in steps of this size and shrinks no further
        _back_with_huge_pages(libc)
    return tuned


def _back_with_huge_pages(libc: ctypes.CDLL) -> None:
    """Grow the heap by its padding and request huge pages for the new range.

    Every block passes three buffers of its size; with small pages that takes about 750 address
    translations per block. Only addresses are reserved: a page costs memory once it is written.
    A kernel without huge pages refuses, which changes nothing else.
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
    """Return the configured threshold; ignore an invalid value, because logging is not set up."""
    text = environment.get(TRIM_VARIABLE, "")
    return min(int(text), _INT_MAX) if text.isascii() and text.isdigit() else DEFAULT_TRIM_BYTES
