"""Which processor cores this thread, and the processes that it starts, run on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def split_cores() -> tuple[Sequence[int], Sequence[int]]:
    """One core for a server and the others for its clients: as on machines of their own, neither
    takes time from the other. Both get the same one where there is no second."""
    server, *clients = sorted(os.sched_getaffinity(0))
    return [server], clients or [server]


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Run on these cores only; what is started meanwhile stays there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
