"""Free ports of the loopback interface."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Mapping
from typing import Final

from tools.backends.errors import ServiceError

# Below the range of kernels' ephemeral ports, so that no outgoing connection takes a port between
# the choice and the start of the server; apart from the ports of tests (tests/support), whose
# clusters use up to 32,000.
LOWEST: Final = 7_000
HIGHEST: Final = 10_000
ATTEMPTS: Final = 200


class PortPicker:
    """Assigns every port once; shared by services that start concurrently."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def pick(self, *names: str, before: Mapping[str, int]) -> dict[str, int]:
        """Return a free port for each name: that of the last start unless it is taken."""
        return {name: self._pick(before.get(name)) for name in names}

    def pick_one(self) -> int:
        """Return a free port. Raise ServiceError."""
        return self._pick(None)

    def _pick(self, preferred: int | None) -> int:
        with self._lock:
            if preferred is not None and self._take(preferred):
                return preferred
            for _ in range(ATTEMPTS):
                # Not `random`, which a test may have seeded.
                port = secrets.choice(range(LOWEST, HIGHEST))
                if self._take(port):
                    return port
        raise ServiceError(f"no free port between {LOWEST} and {HIGHEST}: stop what listens there")

    def _take(self, port: int) -> bool:
        if port in self._taken or not is_free(port):
            return False
        self._taken.add(port)
        return True


def is_free(port: int) -> bool:
    """Return whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT after the last run is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
