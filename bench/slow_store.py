"""Repository whose object store takes so many bytes per second, to fill the byte budget.

SLUICE_BENCH_STORE_BYTES_PER_SECOND=40000000 python -m bench.slow_store --ready-file F
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Final

from bench.load.schedule import Clock, Sleep
from sluice_common.process.start import prepare_process

STORE_RATE: Final = "SLUICE_BENCH_STORE_BYTES_PER_SECOND"
"""A variable of the benchmark, the services have no such setting."""


class Line:
    """Line to the store: carries one body after the other, in the order of their arrival."""

    def __init__(
        self,
        bytes_per_second: float,
        clock: Clock | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = 0.0

    async def carry(self, size: int) -> None:
        """Wait until the line has carried the body."""
        now = asyncio.get_running_loop().time() if self._clock is None else self._clock()
        self._free_at = max(now, self._free_at) + size / self._rate
        await self._sleep(self._free_at - now)


def slow_down(store: Any, line: Line) -> None:
    """Make `put` and `put_part` of the class `store` wait for the line.

    It waits instead of computing: the store takes no processor time from what is measured.
    """
    put_at_once, put_part_at_once = store.put, store.put_part

    async def put(self: Any, ref: Any, body: Any, attributes: Any) -> Any:
        await line.carry(body.size)
        return await put_at_once(self, ref, body, attributes)

    async def put_part(self: Any, ref: Any, multipart_id: str, number: int, body: Any) -> Any:
        await line.carry(body.size)
        return await put_part_at_once(self, ref, multipart_id, number, body)

    store.put, store.put_part = put, put_part


def main() -> int:
    prepare_process()  # before the imports below, as in the repository
    from sluice_backends.discard.objects import DiscardObjectStore
    from sluice_repository.service import run

    slow_down(DiscardObjectStore, Line(float(os.environ[STORE_RATE])))
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
