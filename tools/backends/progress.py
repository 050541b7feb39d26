"""Progress for the waiting user: one line per event, with the service's name and the time."""

from __future__ import annotations

import sys
import time
from typing import Final

_BEGIN: Final = time.monotonic()


def say(service: str, text: str) -> None:
    """Print to stderr: stdout is for the settings that other programs read."""
    elapsed = time.monotonic() - _BEGIN
    # One write, because four services report concurrently.
    sys.stderr.write(f"{elapsed:6.1f} s  {service:<6} {text}\n")
    sys.stderr.flush()
