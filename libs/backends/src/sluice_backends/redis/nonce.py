"""Identity of the data in Redis; it changes when Redis is emptied or replaced (rule 28)."""

from __future__ import annotations

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients
from sluice_core.uploads.ids import new_nonce


async def get_or_create_nonce(clients: RedisClients) -> str:
    """Return the nonce; if there is none, create one that all processes share."""
    # GET first: a full Redis refuses SET, also one that would change nothing.
    existing = await clients.execute(keys.NONCE, "GET", keys.NONCE, operation="nonce")
    if existing is not None:
        return bytes(existing).decode()
    _, nonce = await clients.pipeline(
        keys.NONCE,
        [("SET", keys.NONCE, new_nonce(), "NX"), ("GET", keys.NONCE)],
        operation="nonce",
        atomic=True,
    )
    return bytes(nonce).decode()
