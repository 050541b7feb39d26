"""Python's cyclic garbage collector, told what a service looks like.

Nearly everything a service makes for a call dies by its reference count. A collection that comes
after every 700 objects, as the default has it, finds the calls in flight still alive and walks over
them in vain: 5 to 8 % of a process's time with a hundred small uploads at once. What imports have
made lives for ever and need not be walked over at all.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 5_000
"""Objects that may be made and not yet freed before the youngest are looked at. Not more: an error
and its frames are a cycle, and a frame may hold a block of 1 MiB."""


def tune_collector() -> None:
    """Call it when everything is imported. An operator's own thresholds cannot be told from the
    defaults, so there are none to keep."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
