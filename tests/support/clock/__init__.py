"""Steppable wall clocks of single processes, by a preloaded library (stepped.c)."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

from support.preloaded import compiled

_SOURCE = Path(__file__).with_name("stepped.c")


class SteppedClock:
    """The wall clock of every process that is started with `environment`.

    Args:
        folder: location of the library and of the step.
    """

    def __init__(self, folder: Path) -> None:
        self._library = compiled(_SOURCE, folder)
        self._step = folder / "clock-step"
        self.step(0)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"LD_PRELOAD": str(self._library), "SLUICE_CLOCK_OFFSET": str(self._step)}

    def step(self, seconds: int) -> None:
        """Set the clock of these processes ahead of real time by `seconds` (behind if negative)."""
        # Written in place: the processes have the file mapped.
        file = os.open(self._step, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.pwrite(file, struct.pack("=q", seconds), 0)
        finally:
            os.close(file)
