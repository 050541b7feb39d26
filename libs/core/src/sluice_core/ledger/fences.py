"""Who may write as a worker: leases and fencing tokens (rule 15).

A claim is a hold on a part, or on the completion, with a counter that grows with every claim of
the upload. A hold whose lease ended still counts until somebody else takes it: the counter, not
the clock, decides who may write.
"""

from __future__ import annotations

from sluice_core.ledger import refusals
from sluice_core.ledger.record import COMPLETION_HOLD, Hold, UploadRecord
from sluice_core.ledger.store import Session
from sluice_core.ports import CompletionClaim, Fence, PartClaim


def take(
    s: Session, record: UploadRecord, number: int, holder: str, lease_seconds: float
) -> Fence | None:
    """A hold on a part; None while another holder's lease runs. Its own is extended."""
    now = s.clock()
    hold = record.holds.get(number)
    if hold is not None and hold.lease_until > now:
        if hold.holder != holder:
            return None
        hold.lease_until = now + lease_seconds
    else:
        record.fence_counter += 1
        hold = Hold(record.fence_counter, holder, now + lease_seconds)
        record.holds[number] = hold
    s.store.save(record)
    return Fence(s.nonce, hold.counter)


def check(s: Session, record: UploadRecord, claim: PartClaim | CompletionClaim) -> Hold:
    """The claim's hold; raises `Aborted` FENCED when it was taken over or the upload ended."""
    hold = record.holds.get(number_of(claim))
    if hold is None or claim.fence != Fence(s.nonce, hold.counter):
        raise refusals.fenced()
    return hold


def check_any(s: Session, record: UploadRecord, fence: Fence) -> None:
    """Raise `Aborted` FENCED unless the fence is that of some hold of the upload."""
    if all(fence != Fence(s.nonce, hold.counter) for hold in record.holds.values()):
        raise refusals.fenced()


def extend_claim(s: Session, claim: PartClaim | CompletionClaim, lease_seconds: float) -> None:
    """Heartbeat. Shows in no snapshot, so the sequence stays."""
    record = s.require(claim.snapshot.upload_id)
    check(s, record, claim).lease_until = s.clock() + lease_seconds
    s.store.save(record)


def release_claim(s: Session, claim: PartClaim | CompletionClaim) -> None:
    """Give a claim back undone; one that was lost is no error."""
    record = s.store.upload(claim.snapshot.upload_id)
    if record is None:
        return
    number = number_of(claim)
    hold = record.holds.get(number)
    if hold is not None and claim.fence == Fence(s.nonce, hold.counter):
        del record.holds[number]
        s.store.save(record)


def is_held(record: UploadRecord, number: int, now: float) -> bool:
    """Somebody's lease on it runs."""
    hold = record.holds.get(number)
    return hold is not None and hold.lease_until > now


def number_of(claim: PartClaim | CompletionClaim) -> int:
    """The key of the claim's hold."""
    return claim.plan.number if isinstance(claim, PartClaim) else COMPLETION_HOLD
