"""The metrics addresses of a process or its workers, as a file for Prometheus.

The format is that of its file-based service discovery: a list of groups of targets with labels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path


def write_targets(file: Path, targets: Sequence[str]) -> None:
    """Replace the file atomically, so that a reader never sees a partial one. Blocking."""
    groups = [{"targets": list(targets), "labels": {"service": "intake"}}]
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(json.dumps(groups) + "\n", encoding="utf-8")
    draft.replace(file)


def read_targets(file: Path) -> list[str]:
    """Return the `host:port` of every target. Blocking."""
    groups = json.loads(file.read_text(encoding="utf-8"))
    return [str(target) for group in groups for target in group["targets"]]
