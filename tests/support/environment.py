"""The environment of the processes that tests start."""

from __future__ import annotations

import os
from collections.abc import Mapping


def process_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours with these settings, without coverage: these processes are timed and their memory is
    measured, and the lines they run are covered by the tests beside each distribution."""
    inherited = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    return {**inherited, **settings}
