"""Tokens that a process has taken ahead for one caller."""

from __future__ import annotations


class Allowance:
    """Tokens of one kind, taken from the shared buckets and not used yet.

    They expire `seconds` after they were taken. So in any time of length t a caller uses at most
    what the buckets grant in t + `seconds`, whatever the number of processes. A process takes ahead
    only as much as the caller has used within `seconds`: a quiet caller withholds nothing.

    Times are monotonic seconds.
    """

    __slots__ = ("_expires_at", "_left", "_previous", "_since", "_spent", "most", "seconds")

    def __init__(self, seconds: float, most: int) -> None:
        self.seconds = seconds
        self.most = most
        self._left = 0
        self._expires_at = 0.0
        self._since = 0.0
        self._spent = 0
        self._previous = 0

    def spend(self, amount: int, now: float) -> bool:
        """Use `amount` tokens if they are there."""
        if self._left < amount or now >= self._expires_at:
            return False
        self._left -= amount
        self._count(amount, now)
        return True

    def extra(self, now: float) -> int:
        """Return the number of tokens to take ahead."""
        if not self.seconds:
            return 0
        self._count(0, now)
        return min(self.most, max(self._previous, self._spent))

    def taken(self, used: int, extra: int, asked_at: float) -> None:
        """Record tokens taken from the buckets, of which `used` are used now.

        Args:
            asked_at: time before the buckets were asked.
        """
        if extra:
            self._left = extra
            self._expires_at = asked_at + self.seconds
        if self.seconds:
            self._count(used, asked_at)

    def _count(self, amount: int, now: float) -> None:
        if now >= self._since + self.seconds:
            is_adjacent = now < self._since + 2 * self.seconds
            self._previous = self._spent if is_adjacent else 0
            self._since, self._spent = now, 0
        self._spent += amount
