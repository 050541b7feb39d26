"""Synchronization of a load, or a peer, with its parent (`bench.processes.loading`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping


def await_start() -> None:
    """Announce that the load is warm, and wait for the line that begins the measurement."""
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()


def report(figures: Mapping[str, object], *, linger: bool) -> None:
    """Print the figures; `linger` keeps the connections until the parent has measured them."""
    print(json.dumps(figures), flush=True)
    if linger:
        sys.stdin.read()
