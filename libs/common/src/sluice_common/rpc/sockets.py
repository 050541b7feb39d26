"""How many bytes each of this process's TCP connections has received, as the kernel counts them.

gRPC does not say how much of an unfinished message has arrived; the kernel knows (`TCP_INFO`). Its
descriptors are found by their peers. They are only looked at, through duplicates that are closed
at once: gRPC opens and closes them as it likes.
"""

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
"""Of tcpi_bytes_received in struct tcp_info (linux/tcp.h, since Linux 4.1)."""
_SEARCH_SECONDS: Final = 0.1
"""Between two searches through all descriptors."""
_MAPPED_PREFIX: Final = "::ffff:"


class ReceivedBytes:
    """Bytes received per connection. Where the kernel does not count them, nothing is known.

    Args:
        clock: seconds; what bounds how often all descriptors are gone through.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._descriptors: dict[str, int] = {}
        self._next_search = -math.inf

    def of(self, peers: Iterable[str]) -> Mapping[str, int]:
        """Bytes received from each of these peers, named as gRPC names them.

        A peer whose connection has ended, or is none over TCP, is left out. Takes about 5 µs per
        peer, and for one that is new the time to list the open descriptors.
        """
        found: dict[str, int] = {}
        unknown: dict[tuple[str, int], str] = {}
        for peer in peers:
            if (name := _name_of(peer)) is None:
                continue
            descriptor = self._descriptors.get(peer)
            seen = None if descriptor is None else _look_at(descriptor)
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
        # A descriptor that was another connection's before.
        if unknown and known and self._clock() >= self._next_search:
            self._next_search = self._clock() + _SEARCH_SECONDS
            self._descriptors.clear()
            self._search(descriptors, unknown, found)

    def _search(
        self, descriptors: Iterable[int], unknown: dict[tuple[str, int], str], found: dict[str, int]
    ) -> None:
        for descriptor in descriptors:
            seen = _look_at(descriptor)
            peer = None if seen is None else unknown.pop(seen[0], None)
            if seen is not None and peer is not None:
                self._descriptors[peer] = descriptor
                found[peer] = seen[1]
                if not unknown:
                    return


def resident_bytes() -> int:
    """Memory of this process; 0 where the kernel does not say."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _look_at(descriptor: int) -> tuple[tuple[str, int], int] | None:
    """Peer and bytes received of a connected TCP socket; None for anything else."""
    if _TCP_INFO is None:
        return None
    try:
        duplicate = os.dup(descriptor)
    except OSError:
        return None
    try:
        connection = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        return None
    with connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        try:
            host, port = connection.getpeername()[:2]
            info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 256)
        except OSError:
            return None
    if len(info) < _BYTES_RECEIVED_OFFSET + _BYTES_RECEIVED.size:
        return None
    (received,) = _BYTES_RECEIVED.unpack_from(info, _BYTES_RECEIVED_OFFSET)
    return (host.removeprefix(_MAPPED_PREFIX), port), received


def _name_of(peer: str) -> tuple[str, int] | None:
    """Host and port of `ipv4:127.0.0.1:50051` or `ipv6:%5B::1%5D:50051`."""
    _, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return None
    return host.strip("[]").removeprefix(_MAPPED_PREFIX), int(port)
