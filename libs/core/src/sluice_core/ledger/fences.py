"""Leases and fencing tokens of workers (rule 15)."""

from __future__ import annotations

from sluice_core.ledger import refusals
from sluice_core.ledger.record import COMPLETION_HOLD, Hold, UploadRecord
from sluice_core.ledger.store import Session
from sluice_core.ports import CompletionClaim, Fence, PartClaim


def take(
    s: Session, record: UploadRecord, number: int, holder: str, lease_seconds: float
) -> Fence | None:
    """Acquire a hold on a part or the completion, or extend the holder's own.

    Return None while another holder's lease runs. The counter grows with every claim of the
    upload. A hold with an expired lease stays valid until another holder takes it: the counter,
    not the clock, decides which worker may write.
    """
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
    """Return the claim's hold; raise `Aborted` FENCED when taken over or the upload ended."""
    hold = record.holds.get(number_of(claim))
    if hold is None or claim.fence != Fence(s.nonce, hold.counter):
        raise refusals.fenced()
    return hold


def check_any(s: Session, record: UploadRecord, fence: Fence) -> None:
    """Raise `Aborted` FENCED unless some hold of the upload has this fence."""
    if all(fence != Fence(s.nonce, hold.counter) for hold in record.holds.values()):
        raise refusals.fenced()


def extend_claim(s: Session, claim: PartClaim | CompletionClaim, lease_seconds: float) -> None:
    """Renew the lease (heartbeat). No snapshot shows it, so the sequence stays."""
    record = s.require(claim.snapshot.upload_id)
    check(s, record, claim).lease_until = s.clock() + lease_seconds
    s.store.save(record)


def release_claim(s: Session, claim: PartClaim | CompletionClaim) -> None:
    """Release an unfinished claim; no-op for a lost one."""
    record = s.store.upload(claim.snapshot.upload_id)
    if record is None:
        return
    number = number_of(claim)
    hold = record.holds.get(number)
    if hold is not None and claim.fence == Fence(s.nonce, hold.counter):
        del record.holds[number]
        s.store.save(record)


def is_held(record: UploadRecord, number: int, now: float) -> bool:
    """Return whether a lease on the part or completion runs."""
    hold = record.holds.get(number)
    return hold is not None and hold.lease_until > now


def number_of(claim: PartClaim | CompletionClaim) -> int:
    """Return the key of the claim's hold."""
    return claim.plan.number if isinstance(claim, PartClaim) else COMPLETION_HOLD
