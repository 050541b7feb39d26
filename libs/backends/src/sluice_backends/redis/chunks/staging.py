"""One chunk on its way into Redis: blocks pushed to a list that nobody else knows (rule 1)."""

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
    """A `StagedChunk`.

    Blocks go out in the one size that `keys` promises. A block that has it already, and the last
    one of the size that was offered, are sent straight from the caller's memory; only what comes
    in other pieces is put together first.

    The reply to each push is the length of the list, so a doubled or a lost block, or a list that
    was dropped meanwhile, is noticed here and not only when the chunk is read.
    """

    def __init__(self, clients: RedisClients, offer: ChunkOffer, lifetime_seconds: float) -> None:
        self._clients = clients
        self._upload_id = offer.upload_id
        self._token = offer.token
        self._key = keys.staging(offer.upload_id, offer.token)
        self._lifetime_seconds = lifetime_seconds
        self._offered = offer.size
        self._size = 0
        self._gathered = bytearray()
        self._pushes = Pushes(clients, self._key)
        self._pushed = 0
        self._answered = 0
        self._lifetime_began = 0.0
        self._is_ours = False
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
        if not self._gathered and (is_last or len(block) == keys.STAGED_BLOCK_BYTES):
            await self._push(block)
            return
        room = keys.STAGED_BLOCK_BYTES - len(self._gathered)
        self._gathered += block[:room]
        if len(self._gathered) == keys.STAGED_BLOCK_BYTES:
            await self._flush()
        self._gathered += block[room:]
        if self._gathered and is_last:
            await self._flush()

    async def keep(self) -> None:
        """A block is pushed when it is complete, which may take a slow client longer than the list
        lives."""
        if self._is_ours and not (self._dropped or self._sealed):
            _, key, milliseconds = self._live()
            await self._clients.execute(self._key, "PEXPIRE", key, milliseconds)

    async def seal(self) -> None:
        """All pushes were answered. For `memory` and `fsync` (appendfsync always answers after the
        fsync) that is the proof; for `replicated`, the WAIT after the ledger's step covers them."""
        self._check()
        if self._gathered:
            await self._flush()
        await self._pushes.settle()
        self._sealed = True

    async def drop(self) -> None:
        """Take no more; returns when nothing is on its way that could outlive a removal."""
        self._dropped = True
        await self._pushes.give_up()

    async def discard_unless_sealed(self) -> None:
        """Remove what was pushed. A Redis that is away keeps it until its time to live ends."""
        self._gathered.clear()
        if self._sealed:
            return
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                # What is on the way would come after it, and stay.
                await self._pushes.give_up()
                if self._is_ours:
                    await self._clients.execute(self._key, "UNLINK", self._key)
        except (SluiceError, TimeoutError) as error:
            _log.warning("staged_chunk_not_removed", upload_id=self._upload_id, reason=str(error))

    async def _flush(self) -> None:
        # A new buffer: the old one may still be in the hands of a connection that is closing.
        full, self._gathered = self._gathered, bytearray()
        await self._push(full)

    async def _push(self, block: Block | bytearray) -> None:
        self._pushed += 1
        if self._pushed == 1:
            self._is_ours = True
            # One step, so that no list is ever without an end to its life.
            await self._pushes.push(
                [
                    ("HEXISTS", keys.tokens(self._upload_id), self._token),
                    ("RPUSH", self._key, block),
                    self._live(),
                ],
                self._check_first,
                atomic=True,
            )
            return
        # RPUSHX: a list that was dropped does not come back without its first blocks.
        commands: list[Command] = [("RPUSHX", self._key, block)]
        if monotonic() - self._lifetime_began > self._lifetime_seconds / 4:
            commands.append(self._live())
        await self._pushes.push(commands, self._check_next)

    def _check_first(self, replies: list[Any]) -> None:
        accepted, length, _ = replies
        self._answered = 1
        if length != 1:
            # Another sender's bytes. It finds its list too long, and so does the ledger.
            self._is_ours = False
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

    def _live(self) -> Command:
        self._lifetime_began = monotonic()
        return ("PEXPIRE", self._key, int(self._lifetime_seconds * 1000))

    def _check(self) -> None:
        if self._dropped:
            raise staging_dropped()
