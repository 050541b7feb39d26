"""Names of nodes that a file of this machine can have without meaning another place."""

from __future__ import annotations

import os
import re
from typing import Final

_WINDOWS_DEVICE: Final = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3]) *(\..*)?",
    re.IGNORECASE | re.DOTALL,
)
_WINDOWS_MARK: Final = re.compile(r'[\x00-\x1f\\/:*?"<>|]')
"""Separators, drives and streams of files (`a:b`), patterns, and what no name may have."""


def is_safe_segment(segment: str, *, windows: bool = os.name == "nt") -> bool:
    """Return whether a segment of a node's path names a file of its own in its folder.

    On Windows some names are devices in every folder, a backslash separates, a colon names a drive
    or a stream, and dots and spaces at the end are dropped.
    """
    if segment in ("", ".", "..") or "\0" in segment or "/" in segment:
        return False
    if not windows:
        return True
    return not (
        _WINDOWS_MARK.search(segment)
        or segment.endswith((".", " "))
        or _WINDOWS_DEVICE.fullmatch(segment)
    )
