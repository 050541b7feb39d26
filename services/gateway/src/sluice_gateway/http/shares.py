"""Shares of what one process has, so that whoever comes late gets something."""

from __future__ import annotations

from collections import Counter


class FairShares:
    """Divides an amount among holders by what is free, without knowing how many there will be.

    A holder may have as much as stays free (times its weight): one alone has half, two a third
    each, and so on (dynamic thresholds; Choudhury and Hahne, 1998). A fixed share is either too
    small for one, or used up by a few.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._held: Counter[str] = Counter()

    def take(self, holder: str, amount: int, weight: float = 1.0) -> bool:
        """Take an amount; return False, with nothing taken, if it is above the holder's share."""
        free = self._free - amount
        if free < 0 or self._held[holder] + amount > weight * free:
            return False
        self._free = free
        self._held[holder] += amount
        return True

    def release(self, holder: str, amount: int) -> None:
        """Give an amount back."""
        self._free += amount
        self._held[holder] -= amount
        if self._held[holder] == 0:
            del self._held[holder]
