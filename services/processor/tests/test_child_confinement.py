"""Confinement of decoder children: memory, time, files, connections, settings."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from sluice_processor.images.children.pool import ImageWorkers
from support.canaries import plant
from support.decoder_children import OPTIONS, only


def confined(body: str, **changes: float) -> subprocess.CompletedProcess[str]:
    """Run code in a confined process."""
    program = textwrap.dedent(
        f"""
        import os, resource, socket, sys
        from sluice_processor.images.children import confinement
        from sluice_processor.images.model import ImageOptions
        options = ImageOptions(**{changes!r})
        confinement.confine(options)
        """
    ) + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_child_has_limits() -> None:
    done = confined(
        """
        assert resource.getrlimit(resource.RLIMIT_AS) == (300 << 20, 300 << 20)
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        assert resource.getrlimit(resource.RLIMIT_FSIZE) == (0, 0)
        try:
            bytearray(400 << 20)
        except MemoryError:
            print("no memory")
        try:
            [os.dup(0) for _ in range(100)]
        except OSError:
            print("no descriptors")
        """,
        child_memory_bytes=300 << 20,
    )
    assert done.stdout.split("\n")[:2] == ["no memory", "no descriptors"], done.stderr


def test_a_child_can_open_neither_files_nor_connections() -> None:
    if _landlock_version() < 4:
        pytest.skip("this kernel has no Landlock, or one without network rules")
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = confined(
            f"""
            for name, action in [
                ("read", lambda: open("/etc/hostname")),
                ("list", lambda: os.listdir("/")),
                ("write", lambda: open("/tmp/sluice-child", "w")),
                ("run", lambda: os.execv("/bin/sh", ["sh"])),
                ("connect", lambda: socket.create_connection({server.getsockname()!r})),
            ]:
                try:
                    action()
                except PermissionError:
                    print(name)
            """
        )
    assert done.stdout.split() == ["read", "list", "write", "run", "connect"], done.stderr


def _landlock_version() -> int:
    import ctypes

    return int(ctypes.CDLL(None).syscall(444, None, 0, 1))


def test_processor_time_is_limited_by_the_picture() -> None:
    done = confined(
        """
        confinement.limit_time(options)
        while True:
            pass
        """,
        cpu_seconds=0,
    )
    assert done.returncode == -signal.SIGXCPU


def test_processor_time_is_limited_to_less_than_a_second() -> None:
    done = confined(
        """
        confinement.limit_time(options)
        while True:
            pass
        """,
        cpu_seconds=0.1,
    )
    assert done.returncode == -signal.SIGPROF


def test_alarm_ends_child_of_a_hanging_parent() -> None:
    done = confined(
        """
        confinement._GRACE_SECONDS = 0.1
        confinement.limit_time(options)
        import time
        time.sleep(30)
        """,
        wall_seconds=0,
    )
    assert done.returncode == -signal.SIGALRM


async def test_a_child_sees_nothing_of_the_service_s_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canaries = plant()
    for name, value in canaries.environment.items():
        monkeypatch.setenv(name, value)
    async with ImageWorkers(OPTIONS) as pool:
        process = Path(f"/proc/{only(pool)}")
        seen = (process / "cmdline").read_bytes()
        assert seen
        # prctl made it undumpable, which hides it from its own user.
        with suppress(PermissionError):
            seen += (process / "environ").read_bytes()
    assert canaries.leaks(seen) == []
    assert b"SLUICE" not in seen
