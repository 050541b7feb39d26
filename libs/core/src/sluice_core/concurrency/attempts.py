"""Attempts at one task: which errors are retried, when, and how the last one is reported."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from sluice_core.concurrency.allowance import Allowance
from sluice_core.concurrency.waiting import backoff_seconds
from sluice_core.errors import SluiceError


class RetryOptions(Protocol):
    """How often and how long one task is tried."""

    @property
    def attempts(self) -> int: ...

    @property
    def handling_seconds(self) -> float:
        """Time of all attempts, without time spent in `allowance_paused`."""
        ...

    @property
    def retry_base_seconds(self) -> float: ...

    @property
    def retry_cap_seconds(self) -> float: ...


@dataclass(frozen=True, slots=True)
class FinalFailure:
    """Why a task failed for good. `reason` is stable; `detail` is for operators."""

    reason: str
    detail: str
    attempts: int = 0


class Attempts:
    """The attempts at one task, one at a time:

    attempts = Attempts(options)
    while True:
        async with attempts.attempt():
            ...
        delay = attempts.delay_seconds(error)  # None: the error is final
        await asyncio.sleep(delay)
        attempts.spend(delay)
    """

    def __init__(self, options: RetryOptions) -> None:
        self.count = 0
        self._options = options
        self._allowance = Allowance(options.handling_seconds)

    def attempt(self) -> AbstractAsyncContextManager[None]:
        """Count the block and charge its duration; `TimeoutError` when the time is used up."""
        self.count += 1
        return self._allowance.spending()

    def spend(self, seconds: float) -> None:
        """Charge time between two attempts."""
        self._allowance.spend(seconds)

    def delay_seconds(self, error: Exception) -> float | None:
        """Return the delay before the next attempt, or None if `error` is final.

        It is for a `SluiceError` that is not retryable, after the last attempt, and when the time
        left does not cover the delay.
        """
        options = self._options
        delay = backoff_seconds(self.count, options.retry_base_seconds, options.retry_cap_seconds)
        is_permanent = isinstance(error, SluiceError) and not error.retryable
        is_last = self.count >= options.attempts or self._allowance.left_seconds <= delay
        return None if is_permanent or is_last else delay

    def final_failure(
        self, error: Exception, *, timeout_detail: str, defect_detail: str
    ) -> FinalFailure:
        """Return the failure of the last attempt.

        Args:
            timeout_detail: the detail when the time was used up.
            defect_detail: the detail of an unexpected error.
        """
        if isinstance(error, SluiceError):
            return FinalFailure(error.reason, error.operator_message, self.count)
        if isinstance(error, TimeoutError):
            return FinalFailure("HANDLER_TIMEOUT", timeout_detail, self.count)
        return FinalFailure("HANDLER_FAILED", defect_detail, self.count)
