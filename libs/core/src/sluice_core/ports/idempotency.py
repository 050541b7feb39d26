"""Catalogue port: keys that make a repeated request answer like the first one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from sluice_core.photos.model import Owner

MAX_IDEMPOTENCY_KEY_CHARACTERS = 255
MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""A job of 1,000 photos is answered with as many signed URLs."""


class ClaimState(Enum):
    CLAIMED = auto()
    """Execute the request, then `finish_request` or `release_request`."""
    IN_PROGRESS = auto()
    """Another process executes it."""
    ANSWERED = auto()
    CONFLICT = auto()
    """The key belongs to another request."""


@dataclass(frozen=True, slots=True)
class RequestClaim:
    state: ClaimState
    operation_id: str = ""
    """The same for every claim of the key. Derive from it the ids of what the request creates: a
    request that died half-way is then repeated without a twin."""
    answer: bytes = b""


class IdempotencyCatalogue(Protocol):
    """Requests by owner and `Idempotency-Key`.

    Times are of the database's clock. A key is forgotten when its lifetime is over.
    """

    async def claim_request(
        self,
        owner: Owner,
        key: str,
        fingerprint: bytes,
        *,
        lease_seconds: float,
        lifetime_seconds: float,
    ) -> RequestClaim:
        """Claim the request with this key, or return what became of it.

        Args:
            key: at most 255 printable ASCII characters.
            fingerprint: SHA-256 of route and body: another one is a CONFLICT.
            lease_seconds: time after which another process may take over a dead claim.
            lifetime_seconds: how long a new key is kept.
        """
        ...

    async def finish_request(
        self, owner: Owner, key: str, operation_id: str, answer: bytes
    ) -> bytes:
        """Keep the answer and return it; of two executions, the first one's answer stays.

        Return `answer` itself if the key is forgotten. Raise ValueError beyond MAX_ANSWER_BYTES.
        """
        ...

    async def release_request(self, owner: Owner, key: str, operation_id: str) -> None:
        """End a claim without an answer, so that a repeat can claim it at once."""
        ...

    async def purge_requests(self, limit: int) -> int:
        """Delete keys whose lifetime is over, at most `limit`; return how many."""
        ...
