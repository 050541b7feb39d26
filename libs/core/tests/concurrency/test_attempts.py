"""Attempts at one task: what is retried, when, and how the last failure is reported."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from sluice_core.concurrency.attempts import Attempts, FinalFailure
from sluice_core.errors import InvalidArgument, Unavailable


@dataclass(frozen=True, slots=True)
class Options:
    attempts: int = 3
    handling_seconds: float = 60.0
    retry_base_seconds: float = 0.2
    retry_cap_seconds: float = 1.0


DOWN = Unavailable("DOWN", "The server is down; try again.")
BAD = InvalidArgument("BAD", "This can never work.")


async def fail(attempts: Attempts, times: int = 1) -> None:
    for _ in range(times):
        async with attempts.attempt():
            pass


async def test_transient_error_is_retried_with_growing_delay() -> None:
    attempts = Attempts(Options(attempts=9))
    for ceiling in (0.2, 0.4, 0.8, 1.0, 1.0):
        await fail(attempts)
        delay = attempts.delay_seconds(DOWN)
        assert delay is not None
        assert ceiling / 2 <= delay <= ceiling


@pytest.mark.parametrize("error", [DOWN, TimeoutError(), ValueError("x")])
async def test_last_attempt_is_final(error: Exception) -> None:
    attempts = Attempts(Options(attempts=2))
    await fail(attempts)
    assert attempts.delay_seconds(error) is not None
    await fail(attempts)
    assert attempts.delay_seconds(error) is None


async def test_permanent_error_is_final_at_once() -> None:
    attempts = Attempts(Options())
    await fail(attempts)
    assert attempts.delay_seconds(BAD) is None


async def test_delay_beyond_the_time_left_is_final() -> None:
    attempts = Attempts(Options(handling_seconds=60.0))
    await fail(attempts)
    attempts.spend(59.95)
    assert attempts.delay_seconds(DOWN) is None


async def test_attempt_ends_when_the_time_is_used_up() -> None:
    attempts = Attempts(Options(handling_seconds=0.01))
    with pytest.raises(TimeoutError):
        async with attempts.attempt():
            await asyncio.Event().wait()
    assert attempts.count == 1


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (DOWN, "DOWN", DOWN.operator_message),
        (TimeoutError(), "HANDLER_TIMEOUT", "late"),
        (ValueError("51.4778925"), "HANDLER_FAILED", "a defect"),
    ],
)
async def test_failure_names_reason_and_attempts(
    error: Exception, reason: str, detail: str
) -> None:
    attempts = Attempts(Options())
    await fail(attempts, 2)
    failure = attempts.final_failure(error, timeout_detail="late", defect_detail="a defect")
    assert failure == FinalFailure(reason, detail, 2)
