"""CPU affinity of this thread and the processes that it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def split_cores() -> tuple[Sequence[int], Sequence[int]]:
    """Return one core for a server and the others for its clients.

    They then do not compete for processor time, as on separate machines. With a single core both
    share it.
    """
    server, *clients = sorted(os.sched_getaffinity(0))
    return [server], clients or [server]


@contextmanager
def on_cores(cores: Sequence[int]) -> Iterator[None]:
    """Run on these cores inside the block; processes started in it stay there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
