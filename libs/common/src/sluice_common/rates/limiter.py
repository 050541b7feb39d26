"""Rate limiter of one process: refuses calls and delays bytes."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sluice_common.rates.allowance import Allowance
from sluice_common.rates.metrics import RateMetrics
from sluice_core.access.principal import Principal
from sluice_core.errors import ResourceExhausted
from sluice_core.ports.rate_buckets import RateBuckets
from sluice_core.rates.model import SECOND_US, Bucket, Charge, Rate, RateKind, RateScope, Taken

RATE_LIMITED: Final = "RATE_LIMITED"

LONGEST_WAIT_SECONDS: Final = 10.0
"""Longest wait for bytes that are charged already. It bounds the debt of a bucket, and what a
caller who gives up while waiting has paid for nothing."""

_NOTICE_SECONDS: Final = 15.0
"""Interval at which a delayed stream is notified again: well within the patience of clients."""
_SHORTEST_SLEEP_SECONDS: Final = 0.001
_ALWAYS_SECONDS: Final = 1e9
_AT_ONCE: Final = Taken(granted=True, extra=False, wait_seconds=0.0, limiting=0)
_MOST_CALLERS: Final = 10_000
_UNITS: Final = {
    RateKind.UPLOADS: "uploads per minute",
    RateKind.CALLS: "calls per second",
    RateKind.BYTES: "bytes per second",
    RateKind.GUESSES: "guesses per minute",
    RateKind.JOBS: "jobs per minute",
    RateKind.PROGRESS: "posts of progress per second",
}

OnDelay = Callable[[float], Awaitable[None]]
"""Called with the seconds of delay that are left."""


@dataclass(frozen=True, slots=True)
class _Limited:
    """A kind that is limited for a caller, by one bucket or two."""

    buckets: tuple[Bucket, ...]
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: float
    bucket: Bucket


@dataclass(slots=True)
class _Caller:
    """State of one subject of one tenant in this process."""

    limited: Mapping[RateKind, _Limited]
    refusals: dict[RateKind, _Refusal] = field(default_factory=dict)
    calls_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    bytes_turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class RateLimiter:
    """Takes from the buckets of callers, and remembers what spares a round trip.

    Args:
        rates: what is limited; the same in every process that shares the buckets.
        allowance_seconds: how long tokens taken ahead may be used; 0 takes nothing ahead.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        buckets: RateBuckets,
        rates: Mapping[tuple[RateScope, RateKind], Rate],
        metrics: RateMetrics,
        *,
        allowance_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._buckets = buckets
        self._rates = dict(rates)
        self._metrics = metrics
        self._allowance_seconds = allowance_seconds
        self._clock = clock
        self._sleep = sleep
        self._callers: OrderedDict[tuple[str, str], _Caller] = OrderedDict()

    def limit(self, kind: RateKind) -> int:
        """Return the limit of one caller per period of the kind; 0 means none."""
        amounts = [rate.amount for (_, each), rate in self._rates.items() if each is kind]
        return min(amounts, default=0)

    # -- calls

    async def admit_call(self, principal: Principal, *kinds: RateKind) -> None:
        """Count one of each kind; raise `ResourceExhausted` RATE_LIMITED above the rate of one."""
        caller = self._caller(principal)
        limited = [kind for kind in kinds if kind in caller.limited]
        if not limited:
            return
        self._check_refused(caller, limited)
        # One at a time: those behind the first use what it takes ahead.
        async with caller.calls_turn:
            self._check_refused(caller, limited)
            await self._take_calls(caller, limited)

    async def _take_calls(self, caller: _Caller, kinds: Sequence[RateKind]) -> None:
        now = self._clock()
        missing = [kind for kind in kinds if not caller.limited[kind].allowance.spend(1, now)]
        if not missing:
            return
        extras = {kind: caller.limited[kind].allowance.extra(now) for kind in missing}
        charges = [
            Charge(bucket, 1, 1 + extras[kind])
            for kind in missing
            for bucket in caller.limited[kind].buckets
        ]
        taken = await self._buckets.take(charges, 0.0)
        if taken.granted:
            for kind in missing:
                extra = extras[kind] if taken.extra else 0
                caller.limited[kind].allowance.taken(1, extra, now)
            return
        # What the other kinds have spent of their allowance stays spent: at most one of each.
        bucket = charges[taken.limiting].bucket
        refusal = _Refusal(self._clock() + taken.wait_seconds, bucket)
        caller.refusals[bucket.kind] = refusal
        raise self._refused(bucket, taken.wait_seconds)

    def _check_refused(self, caller: _Caller, kinds: Sequence[RateKind]) -> None:
        """Refuse without asking while a token cannot be there: nothing is ever given back."""
        for kind in kinds:
            refusal = caller.refusals.get(kind)
            if refusal is None:
                continue
            left = refusal.until - self._clock()
            if left > 0:
                raise self._refused(refusal.bucket, left)
            del caller.refusals[kind]

    # -- bytes

    async def pace_bytes(
        self, principal: Principal, size: int, on_delay: OnDelay | None = None
    ) -> None:
        """Return once `size` received bytes may proceed, however long that takes.

        Args:
            on_delay: called before a delay, and again every 15 s while it lasts.
        """
        limited = self._caller(principal).limited.get(RateKind.BYTES)
        if limited is None or size == 0:
            return
        turn = self._caller(principal).bytes_turn
        if not turn.locked() and limited.allowance.spend(size, self._clock()):
            return
        # In turn: a block does not overtake another one that waits for the debt to shrink.
        async with turn:
            while not (taken := await self._take_bytes(limited, size)).granted:
                too_long = max(taken.wait_seconds - LONGEST_WAIT_SECONDS, _SHORTEST_SLEEP_SECONDS)
                await self._delay(too_long, on_delay)
        await self._delay(taken.wait_seconds, on_delay)

    async def admit_bytes(self, principal: Principal, size: int = 1) -> None:
        """Return once a call with `size` bytes may proceed.

        Before a message of unknown size arrives, the size is 1; `charge_bytes` adds the rest.

        Raise `ResourceExhausted` RATE_LIMITED when that would take longer than 10 s.
        """
        await self._delay(await self._admit_bytes(principal, size))

    async def check_bytes(self, principal: Principal) -> None:
        """Raise `ResourceExhausted` RATE_LIMITED if the caller owes more than 10 s of its rate."""
        await self._admit_bytes(principal, 1)

    async def _admit_bytes(self, principal: Principal, size: int) -> float:
        """Charge `size` bytes and return the delay of the call, or refuse it."""
        limited = self._caller(principal).limited.get(RateKind.BYTES)
        if limited is None or size == 0:
            return 0.0
        taken = await self._take_bytes(limited, size)
        if not taken.granted:
            bucket = limited.buckets[taken.limiting]
            raise self._refused(bucket, taken.wait_seconds - LONGEST_WAIT_SECONDS)
        return taken.wait_seconds

    async def charge_bytes(self, principal: Principal, size: int) -> None:
        """Charge bytes that have been received: the calls that follow wait for them."""
        limited = self._caller(principal).limited.get(RateKind.BYTES)
        if limited is not None and size > 0:
            await self._take_bytes(limited, size, _ALWAYS_SECONDS)

    async def _take_bytes(
        self, limited: _Limited, size: int, longest_wait_seconds: float = LONGEST_WAIT_SECONDS
    ) -> Taken:
        now = self._clock()
        if limited.allowance.spend(size, now):
            return _AT_ONCE
        extra = limited.allowance.extra(now)
        charges = [Charge(bucket, size, size + extra) for bucket in limited.buckets]
        taken = await self._buckets.take(charges, longest_wait_seconds)
        if taken.granted:
            limited.allowance.taken(size, extra if taken.extra else 0, now)
        if taken.granted and taken.wait_seconds > 0:
            self._count(charges[taken.limiting].bucket, "delayed")
        return taken

    async def _delay(self, seconds: float, on_delay: OnDelay | None = None) -> None:
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            if on_delay is not None:
                await on_delay(left)
            await self._sleep(min(left, _NOTICE_SECONDS))

    # -- callers

    def _caller(self, principal: Principal) -> _Caller:
        key = (principal.tenant, principal.subject)
        caller = self._callers.get(key)
        if caller is None:
            caller = self._callers[key] = _Caller(
                {kind: limited for kind in RateKind if (limited := self._limited(kind, key))}
            )
            if len(self._callers) > _MOST_CALLERS:
                self._forget_one()
        self._callers.move_to_end(key)
        return caller

    def _forget_one(self) -> None:
        """Forget the caller that called longest ago; it loses what was taken ahead for it."""
        self._callers.popitem(last=False)

    def _limited(self, kind: RateKind, key: tuple[str, str]) -> _Limited | None:
        tenant, subject = key
        subjects = {RateScope.TENANT: "", RateScope.SUBJECT: subject}
        buckets = tuple(
            Bucket(kind, scope, tenant, subjects[scope], self._rates[scope, kind])
            for scope in RateScope
            if (scope, kind) in self._rates
        )
        if not buckets:
            return None
        per_second = min(each.rate.amount * SECOND_US / each.rate.period_us for each in buckets)
        most = int(per_second * self._allowance_seconds)
        return _Limited(buckets, Allowance(self._allowance_seconds, most))

    def _refused(self, bucket: Bucket, wait_seconds: float) -> ResourceExhausted:
        self._count(bucket, "refused")
        whose = "your tenant" if bucket.scope is RateScope.TENANT else "you"
        return ResourceExhausted(
            RATE_LIMITED,
            f"The limit for {whose} is {bucket.rate.amount} {_UNITS[bucket.kind]}; "
            "try again after the delay.",
            # Rounded up: a retry after exactly this time is not too early.
            retry_after_seconds=math.ceil(wait_seconds * 1000) / 1000,
            metadata={
                "kind": bucket.kind.value,
                "scope": bucket.scope.value,
                "limit": str(bucket.rate.amount),
            },
        )

    def _count(self, bucket: Bucket, outcome: str) -> None:
        self._metrics.limited.labels(bucket.kind.value, bucket.scope.value, outcome).inc()
