"""Staging of one chunk: blocks pushed to a list that only its sender knows (rule 1)."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import structlog

from sluice_backends.redis import keys
from sluice_backends.redis.chunks.pushes import Pushes
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.server import Command
from sluice_core.errors import SluiceError
from sluice_core.ports import Block, ChunkOffer
from sluice_core.uploads.chunk_checks import staging_dropped, token_in_use

_DISCARD_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class RedisStagedChunk:
    """`StagedChunk` on Redis.

    Blocks are pushed in STAGED_BLOCK_BYTES. A block of that size, and the block that completes the
    offered size, are sent from the caller's memory without a copy; other pieces are buffered.

    The reply to each push is the length of the list. So a duplicate or lost block, or a dropped
    list, is detected here and not only when the chunk is read.
    """

    def __init__(self, clients: RedisClients, offer: ChunkOffer, lifetime_seconds: float) -> None:
        self._clients = clients
        self._upload_id = offer.upload_id
        self._token = offer.token
        self._key = keys.staging(offer.upload_id, offer.token)
        self._lifetime_seconds = lifetime_seconds
        self._offered = offer.size
        self._size = 0
        self._buffer = bytearray()
        self._pushes = Pushes(clients, self._key)
        self._pushed = 0
        self._answered = 0
        self._lifetime_extended_at = 0.0
        self._owns_list = False
        self._sealed = False
        self._dropped = False

    @property
    def token(self) -> str:
        return self._token

    @property
    def key(self) -> str:
        return self._key

    async def append(self, block: Block) -> None:
        self._check()
        if not block:
            return
        self._size += len(block)
        is_last = self._size == self._offered
        if not self._buffer and (is_last or len(block) == keys.STAGED_BLOCK_BYTES):
            await self._push(block)
            return
        room = keys.STAGED_BLOCK_BYTES - len(self._buffer)
        self._buffer += block[:room]
        if len(self._buffer) == keys.STAGED_BLOCK_BYTES:
            await self._flush()
        self._buffer += block[room:]
        if self._buffer and is_last:
            await self._flush()

    async def keep(self) -> None:
        """Extend the list's time to live: a slow client may take longer to complete a block."""
        if self._owns_list and not (self._dropped or self._sealed):
            _, key, milliseconds = self._extend_lifetime()
            await self._clients.execute(self._key, "PEXPIRE", key, milliseconds)

    async def seal(self) -> None:
        """Wait until all pushes are acknowledged.

        That proves the durability of `memory` and `fsync` (with appendfsync always, replies follow
        the fsync). For `replicated`, the WAIT after the ledger's step covers the pushes.
        """
        self._check()
        if self._buffer:
            await self._flush()
        await self._pushes.settle()
        self._sealed = True

    async def drop(self) -> None:
        """Refuse further blocks; return when no push is in flight that could outlive a removal."""
        self._dropped = True
        await self._pushes.stop()

    async def discard_unless_sealed(self) -> None:
        """Remove the pushed blocks. If Redis is unreachable, they expire there."""
        self._buffer.clear()
        if self._sealed:
            return
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                # A push in flight would arrive after the removal and stay.
                await self._pushes.stop()
                if self._owns_list:
                    await self._clients.execute(self._key, "UNLINK", self._key)
        except (SluiceError, TimeoutError) as error:
            _log.warning("staged_chunk.remove_failed", upload_id=self._upload_id, reason=str(error))

    async def _flush(self) -> None:
        # A new buffer: a closing connection may still use the old one.
        full, self._buffer = self._buffer, bytearray()
        await self._push(full)

    async def _push(self, block: Block | bytearray) -> None:
        self._pushed += 1
        if self._pushed == 1:
            self._owns_list = True
            # One step, so that a list always has a time to live.
            await self._pushes.push(
                [
                    ("HEXISTS", keys.tokens(self._upload_id), self._token),
                    ("RPUSH", self._key, block),
                    self._extend_lifetime(),
                ],
                self._check_first,
                atomic=True,
            )
            return
        # RPUSHX: a dropped list is not recreated without its first blocks.
        commands: list[Command] = [("RPUSHX", self._key, block)]
        if monotonic() - self._lifetime_extended_at > self._lifetime_seconds / 4:
            commands.append(self._extend_lifetime())
        await self._pushes.push(commands, self._check_next)

    def _check_first(self, replies: list[Any]) -> None:
        accepted, length, _ = replies
        self._answered = 1
        if length != 1:
            # Another sender's list. That sender and the ledger detect that it is too long.
            self._owns_list = False
            raise token_in_use()
        if accepted:
            raise token_in_use()

    def _check_next(self, replies: list[Any]) -> None:
        length = replies[0]
        self._answered += 1
        if length == 0:
            raise staging_dropped()
        if length != self._answered:
            raise token_in_use()

    def _extend_lifetime(self) -> Command:
        self._lifetime_extended_at = monotonic()
        return ("PEXPIRE", self._key, int(self._lifetime_seconds * 1000))

    def _check(self) -> None:
        if self._dropped:
            raise staging_dropped()
