"""The allocator keeps large buffers, unless the environment configures it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")

# With the raised threshold a buffer of 64 MiB comes from the heap, not from a separate mapping, and
# freeing it returns nothing to the kernel.
PROGRAM = """
import sys
from sluice_common.process.malloc import tune_malloc

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

tuned = tune_malloc()
assert "grpc" not in sys.modules
before = resident()
buffer = bytearray(64 * 1024 * 1024)
del buffer
print(tuned, resident() - before > 32 * 1024 * 1024)
"""


def run(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


@glibc_only
def test_freed_buffers_stay_with_the_process() -> None:
    assert run() == "True True"


@glibc_only
def test_a_trim_threshold_below_the_buffer_gives_it_back() -> None:
    assert run(SLUICE_MALLOC_TRIM_BYTES="1048576") == "True False"


@glibc_only
def test_zero_switches_the_tuning_off() -> None:
    assert run(SLUICE_MALLOC_TRIM_BYTES="0") == "False False"


@glibc_only
def test_the_variables_of_glibc_are_left_alone() -> None:
    assert run(MALLOC_ARENA_MAX="2").startswith("False")


@glibc_only
def test_the_variables_of_another_allocator_change_nothing() -> None:
    assert run(MALLOC_CONF="thp:always") == "True True"


@glibc_only
def test_invalid_value_means_the_default() -> None:
    assert run(SLUICE_MALLOC_TRIM_BYTES="lots") == "True True"


HEAP = """
from sluice_common.process.malloc import tune_malloc

tune_malloc()
mappings, found = open("/proc/self/smaps").read().split("VmFlags:"), False
for fields, flags in zip(mappings, mappings[1:]):
    if "[heap]" in fields and "hg" in flags.splitlines()[0].split():
        size = next(line for line in fields.splitlines() if line.startswith("Size:"))
        print(int(size.split()[1]) // 1024)
"""


@glibc_only
@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the kernel has none"
)
def test_huge_pages_are_requested_for_new_heap() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HEAP], env={}, capture_output=True, text=True, check=True, timeout=30
    )
    assert [int(size) for size in done.stdout.split()] == [pytest.approx(126, abs=2)]
