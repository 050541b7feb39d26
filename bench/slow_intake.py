"""Intake that delays every chunk, to verify that the gates detect it (`--slow-ms`).

SLUICE_BENCH_SLOW_MS=5 python -m bench.slow_intake --ready-file F
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sluice_common.process.malloc import tune_malloc

SLOW_MS: Final = "SLUICE_BENCH_SLOW_MS"
"""Milliseconds per chunk; a variable of the benchmark, the services have no such setting."""


def slow_down(receiver: Any, seconds: float) -> None:
    """Delay `receiver.open` (class `ChunkReceiver` of the intake).

    The delay comes before the first byte of a chunk is read, so that no other work of the stream
    hides it.
    """
    opened_at_once = receiver.open

    @asynccontextmanager
    async def opened_late(*arguments: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(seconds)
        async with opened_at_once(*arguments) as chunk:
            yield chunk

    receiver.open = opened_late


def main() -> int:
    tune_malloc()  # before the imports below, as in the intake
    from sluice_intake.chunks.reception import ChunkReceiver
    from sluice_intake.service import run

    slow_down(ChunkReceiver, float(os.environ[SLOW_MS]) / 1000)
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
