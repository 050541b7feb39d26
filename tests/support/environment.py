"""The environment of the processes that tests start."""

from __future__ import annotations

import os
from collections.abc import Mapping


def process_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these settings, without coverage variables.

    The tests measure time and memory of these processes; each distribution's own tests cover the
    lines that they run.
    """
    inherited = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    return {**inherited, **settings}
