"""Description of the machine, the versions and the settings that figures were measured with."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

from bench import overhead
from bench.backends import REDIS_SETTINGS
from bench.deployment import PHASES, combination
from sluice_common.process.malloc import DEFAULT_TRIM_BYTES
from sluice_core.ledger.options import LedgerOptions
from tools.backends.state import StateDirectory

ROOT: Final = Path(__file__).resolve().parent.parent
_PACKAGES: Final = (
    "grpcio",
    "protobuf",
    "uvloop",
    "awscrt",
    "redis",
    "hiredis",
    "aiokafka",
    "aiobotocore",
    "botocore",
    "boto3",
    "s3transfer",
    "aiohttp",
    "SQLAlchemy",
    "aiomysql",
    "hdrhistogram",
    "sluice-intake",
    "sluice-repository",
)
_KERNEL_SETTINGS: Final = (
    "net/core/rmem_max",
    "net/core/wmem_max",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
    "net/ipv4/tcp_congestion_control",
    "vm/overcommit_memory",
    "vm/swappiness",
)
_GOVERNOR: Final = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
_HUGE_PAGES: Final = "/sys/kernel/mm/transparent_hugepage/enabled"


def describe() -> dict[str, object]:
    """Return machine, kernel, versions, settings, overhead of the harness, and the initial load.

    Contains no secrets: of settings only those that affect speed, of backends only kind and
    version.
    """
    memory = psutil.virtual_memory()
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(logical=True),
        "virtual": "hypervisor" in _cpu_flags(),
        "governor": _read(_GOVERNOR),
        "memory_bytes": memory.total,
        "load_at_start": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "kernel_settings": {
            "transparent_hugepage": _read(_HUGE_PAGES),
            **{name.replace("/", "."): _read(f"/proc/sys/{name}") for name in _KERNEL_SETTINGS},
        },
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "backends": _backends(),
        "harness": overhead.measure(),
        "settings": {
            "redis": dict(REDIS_SETTINGS),
            "phases": {str(phase): combination(phase) for phase in PHASES},
            "budget_bytes": LedgerOptions().budget_bytes,
            "malloc_trim_bytes": DEFAULT_TRIM_BYTES,
        },
    }


def _read(path: str) -> str | None:
    """Return the content of a one-line kernel file, or None where it is missing or unreadable."""
    try:
        return " ".join(Path(path).read_text(encoding="utf-8").split())
    except OSError:
        return None


def _cpu_line(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _cpu_model() -> str:
    return _cpu_line("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> list[str]:
    return _cpu_line("flags").split()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the measured commit, marked where files differ from it; None outside git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude", "*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _backends() -> dict[str, str]:
    """Return kind and version of this machine's services; those of remote ones are unknown."""
    published = StateDirectory.default().published()
    return {
        name: " ".join(
            str(facts[key]) for key in ("kind", "version") if facts.get(key, name) != name
        )
        for name, facts in published.items()
    }
