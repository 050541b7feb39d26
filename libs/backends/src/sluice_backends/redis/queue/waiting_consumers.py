"""Workers of this process that wait for items, and the hand-over of items to them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from sluice_core.errors import SluiceError
from sluice_core.ports import Delivery, WorkKind


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    kinds: frozenset[WorkKind]
    consumer: str
    result: asyncio.Future[Delivery]


class WaitingConsumers:
    """Waiting workers, first come, first served.

    A handed-over item is either received or becomes unclaimed: a worker may be cancelled at any
    moment, also between the hand-over and its wake-up.
    """

    def __init__(self) -> None:
        self._waiting: dict[_Waiter, None] = {}
        self._unclaimed: deque[Delivery] = deque()

    @property
    def unclaimed(self) -> bool:
        return bool(self._unclaimed)

    async def wait(
        self, kinds: frozenset[WorkKind], consumer: str, seconds: float
    ) -> Delivery | None:
        """Return the item that is handed over, None after `seconds`. Raise the error of `fail`."""
        result: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(kinds, consumer, result)
        self._waiting[waiter] = None
        try:
            async with asyncio.timeout(seconds):
                return await result
        except TimeoutError:
            # The item may have arrived together with the timeout.
            return result.result() if _has_item(result) else None
        except asyncio.CancelledError:
            if _has_item(result):
                self.hand_over(result.result())
            raise
        finally:
            self._waiting.pop(waiter, None)

    def kinds(self) -> frozenset[WorkKind]:
        """Return the kinds that workers wait for."""
        return frozenset().union(*(waiter.kinds for waiter in self._open()))

    def consumers(self, kind: WorkKind, limit: int) -> list[str]:
        """Return the workers that wait for this kind, longest wait first."""
        return [waiter.consumer for waiter in self._open() if kind in waiter.kinds][:limit]

    def hand_over(self, delivery: Delivery) -> None:
        """Give an item to the worker that has waited longest for its kind."""
        for waiter in self._open():
            if delivery.item.kind in waiter.kinds:
                waiter.result.set_result(delivery)
                return
        self._unclaimed.append(delivery)

    def next_unclaimed(self) -> Delivery | None:
        """Return an unclaimed item, which the caller must put back, or None."""
        return self._unclaimed.popleft() if self._unclaimed else None

    def fail(self, error: SluiceError) -> None:
        """Raise an error in all waiting workers."""
        for waiter in self._open():
            waiter.result.set_exception(error)

    def _open(self) -> list[_Waiter]:
        return [waiter for waiter in self._waiting if not waiter.result.done()]


def _has_item(result: asyncio.Future[Delivery]) -> bool:
    return result.done() and not result.cancelled() and result.exception() is None
