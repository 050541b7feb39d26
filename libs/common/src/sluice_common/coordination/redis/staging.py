"""One chunk on its way into Redis: blocks pushed to a list that nobody else knows (rule 1)."""

from __future__ import annotations

import asyncio
from time import monotonic

import structlog

from sluice_common.coordination.ports import Block, ChunkOffer
from sluice_common.coordination.redis import keys
from sluice_common.coordination.redis.connection import RedisClients
from sluice_common.coordination.redis.errors import unavailable
from sluice_common.coordination.redis.server import Command
from sluice_common.coordination.staging import staging_dropped, token_in_use
from sluice_common.errors import SluiceError

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
        self._pushed = 0
        self._lifetime_began = 0.0
        self._is_ours = False
        self._broken = False
        self._sealed = False
        self.dropped = False

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

    async def seal(self) -> None:
        """All pushes were answered. For `memory` and `fsync` (appendfsync always answers after the
        fsync) that is the proof; for `replicated`, the WAIT after the ledger's step covers them."""
        self._check()
        if self._gathered:
            await self._flush()
        self._sealed = True

    async def discard_unless_sealed(self) -> None:
        """Remove what was pushed. A Redis that is away keeps it until its time to live ends."""
        self._gathered.clear()
        if self._sealed or not self._is_ours:
            return
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                await self._clients.execute(self._key, "UNLINK", self._key)
        except (SluiceError, TimeoutError) as error:
            _log.warning("staged_chunk_not_removed", upload_id=self._upload_id, reason=str(error))

    async def _flush(self) -> None:
        # A new buffer: the old one may still be in the hands of a connection that is closing.
        full, self._gathered = self._gathered, bytearray()
        await self._push(full)

    async def _push(self, block: Block | bytearray) -> None:
        # Until it is answered nobody knows whether the block is in, and it is not pushed again.
        self._broken = True
        if self._pushed == 0:
            await self._push_first(block)
        else:
            await self._push_next(block)
        self._pushed += 1
        self._broken = False

    async def _push_first(self, block: Block | bytearray) -> None:
        self._is_ours = True
        # One step, so that no list is ever without an end to its life.
        accepted, length, _ = await self._clients.pipeline(
            self._key,
            [
                ("HEXISTS", keys.tokens(self._upload_id), self._token),
                ("RPUSH", self._key, block),
                self._live(),
            ],
            operation="chunk_push",
            atomic=True,
        )
        if length != 1:
            # Another sender's bytes. It finds its list too long, and so does the ledger.
            self._is_ours = False
            raise token_in_use()
        if accepted:
            raise token_in_use()

    async def _push_next(self, block: Block | bytearray) -> None:
        # RPUSHX: a list that was dropped does not come back without its first blocks.
        commands: list[Command] = [("RPUSHX", self._key, block)]
        if monotonic() - self._lifetime_began > self._lifetime_seconds / 4:
            commands.append(self._live())
        length, *_ = await self._clients.pipeline(self._key, commands, operation="chunk_push")
        if length == 0:
            raise staging_dropped()
        if length != self._pushed + 1:
            raise token_in_use()

    def _live(self) -> Command:
        self._lifetime_began = monotonic()
        return ("PEXPIRE", self._key, int(self._lifetime_seconds * 1000))

    def _check(self) -> None:
        if self.dropped:
            raise staging_dropped()
        if self._broken:
            raise unavailable()
