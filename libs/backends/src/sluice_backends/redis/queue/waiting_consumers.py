"""Workers of this process that wait for an item, and handing items over to them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from sluice_core.errors import SluiceError
from sluice_core.ports import Delivery, WorkKind


@dataclass(frozen=True, slots=True, eq=False)
class _Taker:
    kinds: frozenset[WorkKind]
    consumer: str
    given: asyncio.Future[Delivery]


class WaitingConsumers:
    """Who waits, first come, first served. An item that is handed over is taken, or it comes back
    as unclaimed: a worker may leave at any moment, also when the item is just on its way to it."""

    def __init__(self) -> None:
        self._waiting: dict[_Taker, None] = {}
        self._unclaimed: deque[Delivery] = deque()

    @property
    def unclaimed(self) -> bool:
        return bool(self._unclaimed)

    async def wait(
        self, kinds: frozenset[WorkKind], consumer: str, seconds: float
    ) -> Delivery | None:
        """The item that is handed over; None after the time. Raises what `fail` was given."""
        given: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        taker = _Taker(kinds, consumer, given)
        self._waiting[taker] = None
        try:
            async with asyncio.timeout(seconds):
                return await given
        except TimeoutError:
            # It may have come at the very end.
            return given.result() if _has_item(given) else None
        except asyncio.CancelledError:
            if _has_item(given):
                self.hand_over(given.result())
            raise
        finally:
            self._waiting.pop(taker, None)

    def kinds(self) -> frozenset[WorkKind]:
        """What is waited for."""
        return frozenset().union(*(taker.kinds for taker in self._open()))

    def consumers(self, kind: WorkKind, limit: int) -> list[str]:
        """Those who wait for this kind, longest first."""
        return [taker.consumer for taker in self._open() if kind in taker.kinds][:limit]

    def hand_over(self, delivery: Delivery) -> None:
        """Give an item to who waits longest for its kind."""
        for taker in self._open():
            if delivery.item.kind in taker.kinds:
                taker.given.set_result(delivery)
                return
        self._unclaimed.append(delivery)

    def next_unclaimed(self) -> Delivery | None:
        """An item that nobody was there for; whoever asks has to give it back."""
        return self._unclaimed.popleft() if self._unclaimed else None

    def fail(self, error: SluiceError) -> None:
        """Tell all who wait that there is nothing to be had."""
        for taker in self._open():
            taker.given.set_exception(error)

    def _open(self) -> list[_Taker]:
        return [taker for taker in self._waiting if not taker.given.done()]


def _has_item(given: asyncio.Future[Delivery]) -> bool:
    return given.done() and not given.cancelled() and given.exception() is None
