"""Working under a lease: heartbeats while the work lasts, and the work ends when the lease does.

Rule 15: lease 15 s, heartbeat 5 s. What a worker does after it lost its claim is refused by the
ledger's fence; this module sees to it that it stops doing it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
import structlog

from sluice_core.errors import Aborted, SluiceError, Unavailable
from sluice_core.ports import CompletionClaim, Delivery, PartClaim, UploadLedger
from sluice_repository.deps import RepositoryDeps

Result = TypeVar("Result")

FENCED = "FENCED"
_RETRIES_PER_BEAT = 5
_RELEASE_SECONDS = 2.0

_log = structlog.get_logger(__name__)

retry_unavailable = stamina.AsyncRetryingCaller(
    attempts=6, timeout=8.0, wait_initial=0.1, wait_max=2.0
).on(Unavailable)
"""Calls again while a backend is away for a moment: for the one ledger write that ends long work,
so that a hiccup does not cost all of it. Ends well within a lease."""


def claimant(deps: RepositoryDeps, delivery: Delivery) -> str:
    """Who claims: one delivery, not one process. The ledger answers a repeated claim of the same
    holder with the same fence, and two deliveries of one item must not share it."""
    return f"{deps.holder}/{delivery.delivery_id}"


def is_fenced(error: BaseException) -> bool:
    """Does this error say that the claim belongs to somebody else now, or to nobody?"""
    return isinstance(error, SluiceError) and error.reason == FENCED


async def while_held(
    beat: Callable[[], Awaitable[None]],
    work: Callable[[], Awaitable[Result]],
    *,
    lease_seconds: float,
    heartbeat_seconds: float,
) -> Result:
    """Run `work` while `beat` goes on succeeding.

    `beat` extends the claim by the lease. When it raises `Aborted` FENCED, or when no beat
    succeeded for the length of the lease, the work is cancelled and `Aborted` FENCED is raised.
    What the work itself raises passes through.
    """
    try:
        async with asyncio.TaskGroup() as group:
            heart = group.create_task(_keep_beating(beat, lease_seconds, heartbeat_seconds))
            result = await work()
            heart.cancel()
    except BaseExceptionGroup as errors:
        raise _leading(errors) from None
    return result


async def _keep_beating(
    beat: Callable[[], Awaitable[None]], lease_seconds: float, heartbeat_seconds: float
) -> None:
    loop = asyncio.get_running_loop()
    lease_ends = loop.time() + lease_seconds
    pause = heartbeat_seconds
    while True:
        await asyncio.sleep(min(pause, max(0.0, lease_ends - loop.time())))
        if loop.time() >= lease_ends:
            raise Aborted(FENCED, "The claim could not be extended before its lease ended.")
        asked = loop.time()
        try:
            async with asyncio.timeout_at(lease_ends):
                await beat()
        except (Unavailable, TimeoutError):
            # The ledger may be back before the lease ends: until then nobody else can hold it.
            pause = heartbeat_seconds / _RETRIES_PER_BEAT
        else:
            # Counted from before the call: the ledger's lease began no earlier.
            lease_ends = asked + lease_seconds
            pause = heartbeat_seconds


def _leading(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error that tells what happened: losing the claim explains all that follows it."""
    for error in errors.exceptions:
        if is_fenced(error):
            return error
    return errors.exceptions[0]


async def release(ledger: UploadLedger, claim: PartClaim | CompletionClaim) -> None:
    """Give an unfinished claim back so that it can be taken at once; if not, its lease ends."""
    try:
        async with asyncio.timeout(_RELEASE_SECONDS):
            await ledger.release_claim(claim)
    except (SluiceError, TimeoutError) as error:
        _log.warning("claim_not_released", upload_id=claim.snapshot.upload_id, error=str(error))
