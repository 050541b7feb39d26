"""Execution of ledger steps: the script and, in a cluster, its changes in other slots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

import structlog

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.server import Argument
from sluice_backends.redis.ledger.budget import RedisBudget
from sluice_backends.redis.ledger.refusals import refusal
from sluice_backends.redis.ledger.scripts import ledger_scripts
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import SluiceError
from sluice_core.ledger.options import Clock, LedgerOptions

_log = structlog.get_logger(__name__)


class LedgerSteps:
    """Runs steps. They use the server's time (TIME), independent of the callers' clocks; only tests
    pass a clock."""

    def __init__(
        self,
        clients: RedisClients,
        options: LedgerOptions,
        redis: RedisOptions,
        clock: Clock | None,
    ) -> None:
        self.is_single_server = not redis.cluster
        self.shards = redis.shards
        self.clients = clients
        self._clock = clock
        self.seconds: Clock = clock or monotonic
        """Clock for durations within this process."""
        scripts = ledger_scripts(options, is_single_server=self.is_single_server)
        self._scripts = scripts
        self.budget = RedisBudget(clients, scripts, self._time)

    async def run(
        self,
        step: str,
        upload_id: str,
        *arguments: Argument | None,
        more_keys: Sequence[str] = (),
        wait: bool = False,
    ) -> list[Any]:
        """Run a step and return its answer. `None` stands for an omitted argument.

        Args:
            wait: wait until replicas have the step's writes (rule 6).

        Raise the errors of `refusals.py`.
        """
        call = self.clients.call_and_wait if wait else self.clients.call
        status, answer, *changes = await call(
            self._scripts[step],
            [*keys.upload_keys(upload_id), *more_keys],
            [
                upload_id,
                keys.shard_of(upload_id, self.shards),
                self._time(),
                *("" if argument is None else argument for argument in arguments),
            ],
        )
        if changes:
            await self._follow_up(upload_id, *changes)
        if status == b"REFUSED":
            raise refusal(answer)
        return list(answer)

    async def now(self) -> float:
        """Return the server's time in seconds since the epoch."""
        time = self._time()
        if time:
            return float(time)
        seconds, micros = await self.clients.execute(keys.NONCE, "TIME")
        return int(seconds) + int(micros) / 1_000_000

    async def move(self, upload_id: str, moves: Iterable[tuple[str, float | None]]) -> None:
        """Add an upload to sorted sets of its shard, or (score None) remove it."""
        shard = keys.shard_of(upload_id, self.shards)
        for kind, score in moves:
            key = keys.lookup_set(kind, shard)
            if score is None:
                await self.clients.execute(key, "ZREM", key, upload_id)
            else:
                await self.clients.execute(key, "ZADD", key, score, upload_id)

    async def index(self, upload_id: str, tenant: str, created_at: float) -> None:
        """Add an upload to the indexes by creation time."""
        uploads = keys.tenant_uploads(tenant)
        await self.move(upload_id, [("index", created_at)])
        await self.clients.execute(uploads, "ZADD", uploads, created_at, upload_id)

    async def repair(self, upload_id: str) -> bool:
        """Restore an upload's sets and budget after a crash; return False if it was purged."""
        exists, *state = await self.run("places", upload_id)
        if not exists:
            return False
        tenant, created_at, places, note = state
        await self.index(upload_id, tenant.decode(), float(created_at))
        entries = [(kind, score) for kind, score in _moves(places) if score is not None]
        await self.move(upload_id, entries)
        await self.budget.learn(upload_id, note)
        return True

    async def _follow_up(self, upload_id: str, note: bytes | None, moves: Sequence[bytes]) -> None:
        """Apply a step's changes in other slots of a cluster.

        The step has happened, so its answer stands even if this fails; the walk repairs that. Sets
        are only added to: two steps may arrive here out of order, so only `UploadFinder` removes
        stale entries. Ended uploads never live again, so they leave `deadlines` at once.
        """
        entries = [
            (kind, score)
            for kind, score in _moves(moves)
            if score is not None or kind == "deadlines"
        ]
        try:
            if note is not None:
                await self.budget.learn(upload_id, note)
            if entries:
                await self.move(upload_id, entries)
        except SluiceError as error:
            _log.warning("ledger.follow_up_failed", upload_id=upload_id, reason=error.reason)

    def _time(self) -> str:
        return "" if self._clock is None else f"{self._clock()!r}"


def _moves(flat: Sequence[bytes]) -> list[tuple[str, float | None]]:
    """Return pairs from kind, score, kind, …; an empty score becomes None."""
    return [
        (kind.decode(), float(score) if score else None)
        for kind, score in zip(flat[::2], flat[1::2], strict=True)
    ]
