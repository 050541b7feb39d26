"""Resource usage of a process from outside: CPU, context switches, memory, bytes over TCP."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

import psutil

_PIDFD_GETFD = 438
"""Number of the system call, equal on every architecture of Linux."""
_TCP_INFO_BYTES = 256
_BYTES_RECEIVED_AT = 128
_BYTES_SENT_AT = 200
"""Offsets in `struct tcp_info` of linux/tcp.h; bytes_sent includes retransmitted ones."""
_SWITCHES = re.compile(r"^\w*voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage of a process between two moments.

    `context_switches`: of all threads that were alive at the second moment. `received_bytes` and
    `sent_bytes`: over TCP connections that were open at the second moment, with framing; None where
    the kernel does not report them. `peak_bytes`: the largest resident memory since the process
    began, or since `forget_peak`.
    """

    cpu_seconds: float
    context_switches: int
    resident_bytes: int
    peak_bytes: int
    received_bytes: int | None
    sent_bytes: int | None


class Watched:
    """A process under measurement, of this user or another."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._process = psutil.Process(pid)
        self._sockets = _traffic(pid)
        self._switches = _switches(pid)
        self._before = self._cpu_seconds()

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def usage(self) -> Usage:
        """Return the usage since the last call."""
        now, sockets, switches = self._cpu_seconds(), _traffic(self.pid), _switches(self.pid)
        before, self._before = self._before, now
        switches_before, self._switches = self._switches, switches
        traffic = _difference(self._sockets, sockets)
        self._sockets = sockets
        return Usage(
            cpu_seconds=now - before,
            context_switches=sum(
                count - switches_before.get(thread, 0) for thread, count in switches.items()
            ),
            resident_bytes=self.resident_bytes,
            peak_bytes=self._peak_bytes(),
            received_bytes=None if traffic is None else traffic[0],
            sent_bytes=None if traffic is None else traffic[1],
        )

    @property
    def resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    def forget_peak(self) -> None:
        """Reset `peak_bytes`."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def _peak_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        return int(match[1]) * 1024 if match else self.resident_bytes


def listening(port: int) -> Watched | None:
    """Return the process that listens on a local TCP port; None where it is not visible."""
    for connection in psutil.net_connections("tcp"):
        if (
            connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
            and connection.pid is not None
        ):
            return Watched(connection.pid)
    return None


def _switches(pid: int) -> dict[str, int]:
    """Return the context switches of each thread; the kernel counts per thread."""
    switches: dict[str, int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (task / "status").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended meanwhile
        switches[task.name] = sum(map(int, _SWITCHES.findall(status)))
    return switches


def _difference(
    before: dict[str, tuple[int, int]] | None, after: dict[str, tuple[int, int]] | None
) -> tuple[int, int] | None:
    if before is None or after is None:
        return None
    nothing = (0, 0)
    return (
        sum(got - before.get(name, nothing)[0] for name, (got, _) in after.items()),
        sum(sent - before.get(name, nothing)[1] for name, (_, sent) in after.items()),
    )


def _traffic(pid: int) -> dict[str, tuple[int, int]] | None:
    """Return bytes received and sent by each open TCP connection of a process, by its inode.

    None when the kernel denies access (another user's process, an old kernel).
    """
    traffic: dict[str, tuple[int, int]] = {}
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                name = os.readlink(entry)
            except FileNotFoundError:
                continue  # closed meanwhile
            if name.startswith("socket:"):
                theirs = _libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
                if theirs < 0:
                    if ctypes.get_errno() == errno.EBADF:
                        continue  # closed meanwhile
                    return None
                with socket.socket(fileno=theirs) as one:
                    _note(traffic, name, one)
    except PermissionError:
        return None
    finally:
        os.close(pidfd)
    return traffic


def _note(traffic: dict[str, tuple[int, int]], name: str, one: socket.socket) -> None:
    try:
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return  # not TCP
    if len(info) >= _BYTES_SENT_AT + 8:
        (received,) = struct.unpack_from("=Q", info, _BYTES_RECEIVED_AT)
        (sent,) = struct.unpack_from("=Q", info, _BYTES_SENT_AT)
        traffic[name] = (received, sent)
