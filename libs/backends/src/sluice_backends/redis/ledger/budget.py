"""The budget of rule 9, shared by all processes: keys in one slot and scripts on them.

Where Redis is one server, the steps of the ledger change the budget themselves and little of this
is used. In a cluster the budget is in another slot than an upload; the caller of a step tells it
what has changed.
"""

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
    """Bytes in the chunk store and on their way there. Every method is one atomic step."""

    def __init__(
        self, clients: RedisClients, scripts: Mapping[str, Script], time: Callable[[], str]
    ) -> None:
        self._clients = clients
        self._scripts = scripts
        self._time = time

    async def admit(self, offer: ChunkOffer, request: bytes, *, memory_is_high: bool) -> list[Any]:
        """Room for a chunk: the reason to wait (empty when room is reserved), what the chunk holds,
        whether others wait, and whether it is known and holds nothing.

        Args:
            request: what the upload's step said (`admit_chunk`).
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
        """Take note of a step of an upload; the same note again changes nothing."""
        await self._run("learn", upload_id, note)

    async def release(self, token: str) -> None:
        """End a reservation: the chunk will not come."""
        await self._run("release", "", token)

    async def is_full(self) -> bool:
        """No room in the deployment: no new upload may begin."""
        return bool(await self._run("is_full", ""))

    async def waits(self, upload_id: str) -> bool:
        """Nothing has changed since the upload's last refusal."""
        return bool(await self._run("waits", upload_id))

    async def idle_holders(self, idle_seconds: float, limit: int) -> list[str]:
        """While the budget is full: uploads that hold bytes, got no chunk for so long and were not
        refused one either."""
        found = await self._run("idle_holders", "", idle_seconds, limit)
        return [upload_id.decode() for upload_id in found]

    async def forget(self, upload_id: str) -> None:
        """The upload is no more."""
        await self._run("forget", upload_id)

    async def reserved_tokens(self, tokens: Sequence[str]) -> frozenset[str]:
        """Those of the tokens that hold a reservation."""
        return frozenset(token.decode() for token in await self._run("tokens", "", *tokens))

    async def backlog(self) -> tuple[int, int]:
        """Queued and reserved bytes."""
        queued, reserved = await self._run("backlog", "")
        return queued, reserved

    async def _run(self, step: str, upload_id: str, *arguments: Argument) -> Any:
        script = self._scripts[f"budget_{step}"]
        return await self._clients.call(script, _KEYS, [upload_id, "", self._time(), *arguments])
