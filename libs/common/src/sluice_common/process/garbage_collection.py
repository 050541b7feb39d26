"""Tuning of Python's cyclic garbage collector for services."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 5_000
"""Allocations minus deallocations that trigger a collection of the youngest generation.

Not higher: an error and its frames are a cycle, and a frame may hold a block of 1 MiB.
"""


def tune_collector() -> None:
    """Freeze the imported objects and raise the threshold. Call it after all imports.

    Nearly all objects of a call are freed by reference counting. With the default threshold of 700
    a collection mostly traverses live calls: 5 to 8 % of the processor time with a hundred small
    uploads at once. Imported objects are never freed and need no traversal. Thresholds that an
    operator has set cannot be distinguished from the defaults and are overwritten.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
