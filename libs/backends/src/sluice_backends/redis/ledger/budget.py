"""Budget of rule 9, shared by all processes: keys in one slot and scripts on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.scripts import Script
from sluice_backends.redis.client.server import Argument
from sluice_core.ports import ChunkOffer

_KEYS: Final = tuple(
    f"{{sluice:budget}}:{name}"
    for name in (
        "totals",
        "queued",
        "holders",
        "tenants",
        "reservations",
        "expiries",
        "reserved",
        "announced",
        "to_come",
        "asking",
        "asked",
        "elections",
        "refused",
    )
)
"""See lua/fragments/room.lua. The tenants' own `asking` sets are in the same slot."""


class RedisBudget:
    """Bytes in the chunk store and reserved for it. Every method is one atomic step.

    On one server the ledger's steps change the budget themselves and use little of this class. In a
    cluster the budget is in another slot than an upload; the caller of a step applies its changes.
    """

    def __init__(
        self, clients: RedisClients, scripts: Mapping[str, Script], time: Callable[[], str]
    ) -> None:
        self._clients = clients
        self._scripts = scripts
        self._time = time

    async def admit(self, offer: ChunkOffer, request: bytes, *, memory_is_high: bool) -> list[Any]:
        """Reserve room for a chunk.

        Returns the reason to wait (empty if room is reserved), the bytes that the chunk holds,
        whether others wait, and whether the chunk is known and holds nothing.

        Args:
            request: the answer of the upload's step (`admit_chunk`).
        """
        return list(
            await self._run(
                "admit",
                offer.upload_id,
                request,
                offer.token,
                offer.size,
                "" if offer.hold_bytes is None else offer.hold_bytes,
                "1" if memory_is_high else "",
            )
        )

    async def learn(self, upload_id: str, note: bytes) -> None:
        """Apply the changes of an upload's step; idempotent."""
        await self._run("learn", upload_id, note)

    async def release(self, token: str) -> None:
        """End the reservation of a chunk that will not arrive."""
        await self._run("release", "", token)

    async def is_full(self) -> bool:
        """Return True if the deployment has no room for a new upload."""
        return bool(await self._run("is_full", ""))

    async def waits(self, upload_id: str) -> bool:
        """Return True if nothing has changed since the upload's last refusal."""
        return bool(await self._run("waits", upload_id))

    async def idle_holders(self, idle_seconds: float, limit: int) -> list[str]:
        """Return idle uploads that hold bytes while the budget is full.

        Idle: neither received nor refused a chunk for `idle_seconds`.
        """
        holders = await self._run("idle_holders", "", idle_seconds, limit)
        return [upload_id.decode() for upload_id in holders]

    async def purge(self, upload_id: str) -> None:
        """Remove a purged upload from the budget."""
        await self._run("purge", upload_id)

    async def reserved_tokens(self, tokens: Sequence[str]) -> frozenset[str]:
        """Return the tokens that hold a reservation."""
        return frozenset(token.decode() for token in await self._run("tokens", "", *tokens))

    async def backlog(self) -> tuple[int, int]:
        """Return queued and reserved bytes."""
        queued, reserved = await self._run("backlog", "")
        return queued, reserved

    async def _run(self, step: str, upload_id: str, *arguments: Argument) -> Any:
        script = self._scripts[f"budget_{step}"]
        return await self._clients.call(script, _KEYS, [upload_id, "", self._time(), *arguments])
