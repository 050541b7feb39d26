"""Claims of work items: heartbeats, fencing and release (rule 15)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import stamina
import structlog

from sluice_core.errors import Aborted, NotFound, SluiceError, Unavailable
from sluice_core.ports import CompletionClaim, Delivery, PartClaim, WorkLedger
from sluice_repository.deps import RepositoryDeps

AnyClaim = TypeVar("AnyClaim", PartClaim, CompletionClaim)
Result = TypeVar("Result")

FENCED = "FENCED"
_RETRIES_PER_BEAT = 5
_RELEASE_SECONDS = 2.0

_log = structlog.get_logger(__name__)

retry_unavailable = stamina.AsyncRetryingCaller(
    attempts=6, timeout=8.0, wait_initial=0.1, wait_max=2.0
).on(Unavailable)
"""Retries the one ledger write that ends long work, so that a short outage of the ledger does not
discard all of it. The retries end well within a lease."""


def claimant(deps: RepositoryDeps, delivery: Delivery) -> str:
    """Return the holder name of one delivery.

    It names the delivery, not the process: the ledger answers a repeated claim of the same holder
    with the same fence, and two deliveries of one item must not share a fence.
    """
    return f"{deps.holder}/{delivery.delivery_id}"


def is_fenced(error: BaseException) -> bool:
    """Return whether the error means that the caller no longer holds its claim."""
    return isinstance(error, SluiceError) and error.reason == FENCED


@asynccontextmanager
async def claimed(
    ledger: WorkLedger, claiming: Awaitable[AnyClaim | None]
) -> AsyncIterator[AnyClaim | None]:
    """Yield the claim that `claiming` returns; None if the work is done, held or gone.

    Release the claim when the block raises, so that another worker can take it at once.
    """
    try:
        claim = await claiming
    except NotFound:
        claim = None
    try:
        yield claim
    except (Exception, asyncio.CancelledError):
        if claim is not None:
            await release(ledger, claim)
        raise


async def while_claimed(
    deps: RepositoryDeps,
    delivery: Delivery,
    claim: PartClaim | CompletionClaim,
    work: Callable[[], Awaitable[Result]],
) -> Result:
    """Run `work` and extend both its claim and the delivery until it ends; see `while_held`."""
    options = deps.options

    async def beat() -> None:
        await deps.ledger.extend_claim(claim, options.lease_seconds)
        await deps.queue.extend(delivery)

    return await while_held(
        beat,
        work,
        lease_seconds=options.lease_seconds,
        heartbeat_seconds=options.heartbeat_seconds,
    )


async def while_held(
    beat: Callable[[], Awaitable[None]],
    work: Callable[[], Awaitable[Result]],
    *,
    lease_seconds: float,
    heartbeat_seconds: float,
) -> Result:
    """Run `work` and extend its claim with `beat` until it ends (lease 15 s, heartbeat 5 s).

    The ledger's fence refuses writes of a worker that lost its claim. This function also stops the
    work: when `beat` raises `Aborted` FENCED, or when no beat succeeded for the length of the
    lease, it cancels `work` and raises `Aborted` FENCED. Errors of `work` pass through.
    """
    try:
        async with asyncio.TaskGroup() as group:
            heartbeat = group.create_task(_extend_claim(beat, lease_seconds, heartbeat_seconds))
            result = await work()
            heartbeat.cancel()
    except BaseExceptionGroup as errors:
        raise _root_cause(errors) from None
    return result


async def _extend_claim(
    beat: Callable[[], Awaitable[None]], lease_seconds: float, heartbeat_seconds: float
) -> None:
    loop = asyncio.get_running_loop()
    lease_ends = loop.time() + lease_seconds
    pause = heartbeat_seconds
    while True:
        await asyncio.sleep(min(pause, max(0.0, lease_ends - loop.time())))
        if loop.time() >= lease_ends:
            raise Aborted(FENCED, "The claim could not be extended before its lease ended.")
        requested_at = loop.time()
        try:
            async with asyncio.timeout_at(lease_ends):
                await beat()
        except (Unavailable, TimeoutError):
            # Retry: until the lease ends no other worker can hold the claim.
            pause = heartbeat_seconds / _RETRIES_PER_BEAT
        else:
            # Counted from before the call: the ledger's lease began no earlier.
            lease_ends = requested_at + lease_seconds
            pause = heartbeat_seconds


def _root_cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the lost claim if there is one, because the other errors follow from it."""
    for error in errors.exceptions:
        if is_fenced(error):
            return error
    return errors.exceptions[0]


async def release(ledger: WorkLedger, claim: PartClaim | CompletionClaim) -> None:
    """Release an unfinished claim so that another worker can take it at once.

    Best effort: if the release fails, the lease runs out.
    """
    try:
        async with asyncio.timeout(_RELEASE_SECONDS):
            await ledger.release_claim(claim)
    except (SluiceError, TimeoutError) as error:
        _log.warning("claim.release_failed", upload_id=claim.snapshot.upload_id, error=str(error))
