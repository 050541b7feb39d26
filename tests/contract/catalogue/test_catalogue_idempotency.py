"""Catalogue contract for keys of repeatable requests."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from sluice_core.photos.model import Owner
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.idempotency import MAX_ANSWER_BYTES, ClaimState, RequestClaim
from support.photo_jobs import ANN, BEN, RIVAL

BODY = hashlib.sha256(b"body").digest()
OTHER = hashlib.sha256(b"other").digest()
C = ClaimState


async def claim(
    catalogue: GatewayCatalogue,
    key: str = "k-1",
    *,
    owner: Owner = ANN,
    fingerprint: bytes = BODY,
    lease: float = 60.0,
    lifetime: float = 3600.0,
) -> RequestClaim:
    return await catalogue.claim_request(
        owner, key, fingerprint, lease_seconds=lease, lifetime_seconds=lifetime
    )


async def test_a_repeat_gets_the_first_answer(catalogue: GatewayCatalogue) -> None:
    first = await claim(catalogue)
    assert first.state is C.CLAIMED
    assert first.operation_id
    assert (await claim(catalogue)).state is C.IN_PROGRESS
    answer = bytes(range(256)) * 1024  # more than a BLOB of MySQL holds
    assert await catalogue.finish_request(ANN, "k-1", first.operation_id, answer) == answer
    for _ in range(2):
        assert await claim(catalogue) == RequestClaim(C.ANSWERED, first.operation_id, answer)


async def test_one_of_concurrent_requests_is_executed(catalogue: GatewayCatalogue) -> None:
    claims = await asyncio.gather(*(claim(catalogue) for _ in range(8)))
    assert sorted(one.state.name for one in claims) == ["CLAIMED"] + ["IN_PROGRESS"] * 7


async def test_another_body_is_a_conflict(catalogue: GatewayCatalogue) -> None:
    """While the request runs, and after its end."""
    first = await claim(catalogue)
    assert (await claim(catalogue, fingerprint=OTHER)).state is C.CONFLICT
    await catalogue.finish_request(ANN, "k-1", first.operation_id, b"x")
    assert (await claim(catalogue, fingerprint=OTHER)).state is C.CONFLICT


async def test_keys_are_compared_by_owner_and_bytes(catalogue: GatewayCatalogue) -> None:
    keys = ["k", "K", "k ", " k", "x" * 255]
    for owner in (ANN, BEN, RIVAL):
        for key in keys:
            assert (await claim(catalogue, key, owner=owner)).state is C.CLAIMED


async def test_a_dead_claim_is_taken_over_as_the_same(catalogue: GatewayCatalogue) -> None:
    """With its operation id, so that what the dead process created is found again."""
    dead = await claim(catalogue, lease=0.0)
    taken = await claim(catalogue)
    assert taken == RequestClaim(C.CLAIMED, dead.operation_id)
    assert (await claim(catalogue)).state is C.IN_PROGRESS


async def test_of_two_executions_the_first_answer_stays(catalogue: GatewayCatalogue) -> None:
    dead = await claim(catalogue, lease=0.0)
    await claim(catalogue)
    finish = catalogue.finish_request
    assert await finish(ANN, "k-1", dead.operation_id, b"first") == b"first"
    assert await finish(ANN, "k-1", dead.operation_id, b"second") == b"first"
    assert (await claim(catalogue)).answer == b"first"


async def test_a_released_request_is_claimed_at_once(catalogue: GatewayCatalogue) -> None:
    first = await claim(catalogue)
    await catalogue.release_request(ANN, "k-1", first.operation_id)
    assert await claim(catalogue) == first
    await catalogue.finish_request(ANN, "k-1", first.operation_id, b"x")
    await catalogue.release_request(ANN, "k-1", first.operation_id)
    assert (await claim(catalogue)).state is C.ANSWERED


async def test_a_key_whose_lifetime_is_over_is_new(catalogue: GatewayCatalogue) -> None:
    """For another body, too; and a late answer of the former life is not kept."""
    old = await claim(catalogue, lifetime=0.0)
    new = await claim(catalogue, fingerprint=OTHER)
    assert new.state is C.CLAIMED
    assert new.operation_id != old.operation_id
    assert await catalogue.finish_request(ANN, "k-1", old.operation_id, b"late") == b"late"
    await catalogue.release_request(ANN, "k-1", old.operation_id)
    assert (await claim(catalogue, fingerprint=OTHER)).state is C.IN_PROGRESS


async def test_only_expired_keys_are_purged(catalogue: GatewayCatalogue) -> None:
    for number in range(3):
        await claim(catalogue, f"old-{number}", lifetime=0.0)
    kept = await claim(catalogue, "kept")
    assert await catalogue.purge_requests(2) == 2
    assert await catalogue.purge_requests(2) == 1
    assert await catalogue.purge_requests(2) == 0
    assert (await claim(catalogue, "kept")).operation_id == kept.operation_id


async def test_an_oversized_answer_is_refused(catalogue: GatewayCatalogue) -> None:
    first = await claim(catalogue)
    with pytest.raises(ValueError, match="at most"):
        await catalogue.finish_request(ANN, "k-1", first.operation_id, bytes(MAX_ANSWER_BYTES + 1))
    assert (await claim(catalogue)).state is C.IN_PROGRESS
