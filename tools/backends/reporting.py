"""Progress for the person who waits: one line per event, with the service's name and the time."""

from __future__ import annotations

import sys
import time
from typing import Final

_BEGIN: Final = time.monotonic()


def say(service: str, text: str) -> None:
    """To stderr: stdout belongs to the settings that other programmes read."""
    elapsed = time.monotonic() - _BEGIN
    # One write, because four services report at the same time.
    sys.stderr.write(f"{elapsed:6.1f} s  {service:<6} {text}\n")
    sys.stderr.flush()
