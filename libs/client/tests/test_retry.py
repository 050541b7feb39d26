"""Retry policy: retryable errors, backoff, and the end of patience."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_client.errors import (
    Aborted,
    DeadlineExceeded,
    NotFound,
    ResourceExhausted,
    SluiceError,
    Unavailable,
)
from sluice_client.retry import Patience, RetryPolicy, retrying

DOWN = Unavailable("DOWN", "the server is down")


class Time:
    """Clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += max(seconds, 1e-9)


def patience(time: Time, *, reached: bool = True, chance: float = 0.5) -> Patience:
    return Patience(
        RetryPolicy(patience_seconds=60, connect_patience_seconds=5),
        reached=lambda: reached,
        clock=time.clock,
        sleep=time.sleep,
        chance=lambda: chance,
    )


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True))
def test_jitter_is_full_and_bounded(attempt: int, chance: float) -> None:
    policy = RetryPolicy(first_delay_seconds=0.1, longest_delay_seconds=10)
    delay = policy.delay_seconds(attempt, None, chance)
    assert delay == pytest.approx(min(10, 0.1 * 2 ** min(attempt, 30)) * chance)


@given(st.integers(0, 100), st.floats(0, 1000), st.floats(0, 1, exclude_max=True))
def test_delay_that_the_server_names_is_never_undercut(
    attempt: int, asked: float, chance: float
) -> None:
    assert RetryPolicy().delay_seconds(attempt, asked, chance) >= asked


@pytest.mark.parametrize(
    ("error", "retryable"),
    [
        (DOWN, True),
        (DeadlineExceeded("LATE", ""), True),
        (Aborted("RACE", ""), True),
        (ResourceExhausted("BUDGET_FULL", "", retry_after_seconds=1), True),
        (ResourceExhausted("QUOTA", ""), False),
        (NotFound("NO", ""), False),
    ],
)
def test_contract_says_what_may_be_retried(error: SluiceError, retryable: bool) -> None:
    assert error.retryable is retryable


async def test_call_is_repeated_until_it_works() -> None:
    time = Time()
    answers: list[SluiceError | str] = [DOWN, DOWN, "yes"]

    async def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, SluiceError):
            raise answer
        return answer

    assert await retrying(call, patience(time)) == "yes"
    assert time.slept == [0.05, 0.1]


async def test_permanent_error_is_raised_at_once() -> None:
    time = Time()

    async def call() -> None:
        raise NotFound("UPLOAD_NOT_FOUND", "no such upload")

    with pytest.raises(NotFound):
        await retrying(call, patience(time))
    assert time.slept == []


async def test_patience_ends_after_its_time_without_progress() -> None:
    time = Time()

    async def call() -> None:
        raise DOWN

    with pytest.raises(Unavailable):
        await retrying(call, patience(time))
    assert time.now == pytest.approx(60), "the last attempt is made when patience ends"


async def test_progress_restarts_patience() -> None:
    time = Time()
    waits = patience(time)
    for _ in range(100):
        await waits.pause(DOWN, 9)
        waits.progressed()
    assert time.now > 60


async def test_server_that_never_answered_fails_fast() -> None:
    time = Time()

    async def call() -> None:
        raise DOWN

    with pytest.raises(Unavailable):
        await retrying(call, patience(time, reached=False))
    assert time.now == pytest.approx(5)


async def test_delay_beyond_the_patience_is_not_waited_for() -> None:
    time = Time()
    full = ResourceExhausted("RATE", "come back tomorrow", retry_after_seconds=86_400)
    with pytest.raises(ResourceExhausted):
        await patience(time).pause(full, 0)
    assert time.slept == []


@pytest.mark.parametrize("first", [0, -1, 11])
def test_invalid_policy_is_refused(first: float) -> None:
    with pytest.raises(ValueError, match="first_delay_seconds"):
        RetryPolicy(first_delay_seconds=first, longest_delay_seconds=10)
