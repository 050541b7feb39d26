"""Sizes in bytes. Throughput is in MB/s, sizes are in MiB, as everywhere in the documentation."""

from __future__ import annotations

from typing import Final

MB: Final = 1e6
MIB: Final = 1024**2
GIB: Final = 1024**3
