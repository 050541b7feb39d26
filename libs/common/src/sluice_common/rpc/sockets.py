"""Received bytes per TCP connection of this process, from the kernel."""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import unquote

_DESCRIPTORS: Final = "/proc/self/fd"
_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_BYTES_RECEIVED: Final = struct.Struct("@Q")
_BYTES_RECEIVED_OFFSET: Final = 128
"""Offset of tcpi_bytes_received in struct tcp_info (linux/tcp.h, since Linux 4.1)."""
_SEARCH_SECONDS: Final = 0.1
"""Minimum interval between searches of all descriptors."""
_MAPPED_PREFIX: Final = "::ffff:"


class ReceivedBytes:
    """Received bytes per connection; empty where the kernel does not count them.

    gRPC does not expose how much of an unfinished message has arrived; the kernel does
    (`TCP_INFO`). The descriptors are found by their peers among all of the process. They are
    gRPC's, which may close one at any time and so leave its number to a file; see `_received_by`.

    Args:
        clock: in seconds; limits how often all descriptors are searched.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._descriptors: dict[str, int] = {}
        self._next_search = -math.inf

    def of(self, peers: Iterable[str]) -> Mapping[str, int]:
        """Return the bytes received from each of these peers, named as in gRPC.

        Peers without an open TCP connection are left out. Takes about 5 µs per peer; a new peer
        also takes a listing of the open descriptors.
        """
        found: dict[str, int] = {}
        unknown: dict[tuple[str, int], str] = {}
        for peer in peers:
            if (name := _name_of(peer)) is None:
                continue
            descriptor = self._descriptors.get(peer)
            seen = None if descriptor is None else _received_by(descriptor)
            if seen is not None and seen[0] == name:
                found[peer] = seen[1]
            else:
                self._descriptors.pop(peer, None)
                unknown[name] = peer
        if unknown:
            self._find(unknown, found)
        return found

    def _find(self, unknown: dict[tuple[str, int], str], found: dict[str, int]) -> None:
        try:
            descriptors = {int(descriptor) for descriptor in os.listdir(_DESCRIPTORS)}
        except OSError:
            return
        known = set(self._descriptors.values())
        self._search(descriptors - known, unknown, found)
        # A known descriptor may have been reused for another connection.
        if unknown and known and self._clock() >= self._next_search:
            self._next_search = self._clock() + _SEARCH_SECONDS
            self._descriptors.clear()
            self._search(descriptors, unknown, found)

    def _search(
        self, descriptors: Iterable[int], unknown: dict[tuple[str, int], str], found: dict[str, int]
    ) -> None:
        for descriptor in descriptors:
            seen = _received_by(descriptor)
            peer = None if seen is None else unknown.pop(seen[0], None)
            if seen is not None and peer is not None:
                self._descriptors[peer] = descriptor
                found[peer] = seen[1]
                if not unknown:
                    return


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 if the kernel does not report it."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _received_by(descriptor: int) -> tuple[tuple[str, int], int] | None:
    """Return peer and received bytes of a connected TCP socket; None for anything else.

    Neither the descriptor nor a duplicate of it is ever closed here: it may belong to any file, and
    a process that closes any descriptor of a file loses all its POSIX locks on that file. SQLite
    relies on them. Without them another process takes the write-ahead log away as the last user.
    """
    if _TCP_INFO is None:
        return None
    try:
        borrowed = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if borrowed.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        peer = borrowed.getpeername()[:2]
        info = borrowed.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
        # The number may have passed to another connection in between.
        if borrowed.getpeername()[:2] != peer:
            return None
    except OSError:
        return None
    finally:
        borrowed.detach()
    if len(info) < _BYTES_RECEIVED_OFFSET + _BYTES_RECEIVED.size:
        return None
    (received,) = _BYTES_RECEIVED.unpack_from(info, _BYTES_RECEIVED_OFFSET)
    host, port = peer
    return (host.removeprefix(_MAPPED_PREFIX), port), received


def _name_of(peer: str) -> tuple[str, int] | None:
    """Return host and port of `ipv4:127.0.0.1:50051` or `ipv6:%5B::1%5D:50051`."""
    _, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return None
    return host.strip("[]").removeprefix(_MAPPED_PREFIX), int(port)
