"""Where the metrics of a process, or of its workers, are: a file that Prometheus watches.

The format is that of its file-based service discovery: a list of groups of targets with labels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path


def write_targets(file: Path, targets: Sequence[str]) -> None:
    """Replace the file in one step: whoever watches it never reads half of one. Blocking."""
    groups = [{"targets": list(targets), "labels": {"service": "intake"}}]
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_text(json.dumps(groups) + "\n", encoding="utf-8")
    beside.replace(file)


def read_targets(file: Path) -> list[str]:
    """The `host:port` of every target. Blocking."""
    groups = json.loads(file.read_text(encoding="utf-8"))
    return [str(target) for group in groups for target in group["targets"]]
