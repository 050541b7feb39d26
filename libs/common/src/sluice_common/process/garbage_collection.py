"""Tuning of Python's cyclic garbage collector for services."""

# Import only the standard library: `defer_collections` runs before a service's other imports.

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 5_000
"""Allocations minus deallocations that trigger a collection of the youngest generation.

Not higher: an error and its frames are a cycle, and a frame may hold a block of 1 MiB.
"""

_YOUNG_OBJECTS_AT_START: Final = 100_000


def defer_collections() -> None:
    """Let imports run nearly without collections. Call it before them, `tune_collector` after.

    Nearly all objects that imports create stay, so that the full collections between them find
    little to free: of the processor time of a start they are a tenth. The collector stays on,
    because a process that does not reach `tune_collector` needs it.
    """
    gc.set_threshold(_YOUNG_OBJECTS_AT_START, *gc.get_threshold()[1:])


def tune_collector() -> None:
    """Freeze the imported objects and set the threshold. Call it after a service's own imports.

    What a service imports later, by its settings, is not frozen: MySQL's driver, which it imports
    when it opens the catalogue. The oldest generation holds it, and full collections, which are
    few, go through it.

    Nearly all objects of a call are freed by reference counting. With the default threshold of 700
    a collection mostly traverses live calls: 5 to 8 % of the processor time with a hundred small
    uploads at once. Imported objects are never freed and need no traversal. Thresholds that an
    operator has set cannot be distinguished from the defaults and are overwritten.
    """
    gc.freeze()  # without a collection before: some 2,000 objects do not pay for its 0.1 s
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
