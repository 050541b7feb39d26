"""One step of the ledger: its script, and in a cluster what follows from it in other slots."""

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
    """Runs steps. Times in them are the server's (TIME), so that no clock of a caller matters; only
    tests bring one of their own."""

    def __init__(
        self,
        clients: RedisClients,
        options: LedgerOptions,
        redis: RedisOptions,
        clock: Clock | None,
    ) -> None:
        self.alone = not redis.cluster
        self.shards = redis.shards
        self.clients = clients
        self._clock = clock
        self.seconds: Clock = clock or monotonic
        """For measuring spans of time here, in this process."""
        scripts = ledger_scripts(options, alone=self.alone)
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
        """What the step answers. `None` stands for an argument that is not given.

        Args:
            wait: until replicas have what the step wrote (rule 6).

        Raises the errors of `ledger_refusals`.
        """
        call = self.clients.call_and_wait if wait else self.clients.call
        word, answer, *changes = await call(
            self._scripts[step],
            [*keys.of_upload(upload_id), *more_keys],
            [
                upload_id,
                keys.shard_of(upload_id, self.shards),
                self._time(),
                *("" if argument is None else argument for argument in arguments),
            ],
        )
        if changes:
            await self._follow_up(upload_id, *changes)
        if word == b"REFUSED":
            raise refusal(answer)
        return list(answer)

    async def now(self) -> float:
        """The server's time."""
        time = self._time()
        if time:
            return float(time)
        seconds, micros = await self.clients.execute(keys.NONCE, "TIME")
        return int(seconds) + int(micros) / 1_000_000

    async def move(self, upload_id: str, moves: Iterable[tuple[str, float | None]]) -> None:
        """Put an upload into the sorted sets of its shard, or (None) take it out of them."""
        shard = keys.shard_of(upload_id, self.shards)
        for kind, score in moves:
            key = keys.found_by(kind, shard)
            if score is None:
                await self.clients.execute(key, "ZREM", key, upload_id)
            else:
                await self.clients.execute(key, "ZADD", key, score, upload_id)

    async def index(self, upload_id: str, tenant: str, begun_at: float) -> None:
        """Have the upload found by its beginning."""
        uploads = keys.uploads_of(tenant)
        await self.move(upload_id, [("index", begun_at)])
        await self.clients.execute(uploads, "ZADD", uploads, begun_at, upload_id)

    async def repair(self, upload_id: str) -> bool:
        """Put an upload where it belongs, whatever crashed in between; False if it is no more."""
        there, *found = await self.run("places", upload_id)
        if not there:
            return False
        tenant, begun_at, places, note = found
        await self.index(upload_id, tenant.decode(), float(begun_at))
        belongs = [(kind, score) for kind, score in _moves(places) if score is not None]
        await self.move(upload_id, belongs)
        await self.budget.learn(upload_id, note)
        return True

    async def _follow_up(self, upload_id: str, note: bytes | None, moves: Sequence[bytes]) -> None:
        """What a step in a cluster leaves to be done in other slots.

        The step has happened, so its answer stands even if this fails: the walk repairs it. The
        sets are only added to here: taking out is for whoever finds nothing to do (see
        `finding.py`), because two steps may arrive here in the wrong order. What ended, on
        the other hand, never lives again, so it leaves `deadlines` at once.
        """
        wanted = [
            (kind, score)
            for kind, score in _moves(moves)
            if score is not None or kind == "deadlines"
        ]
        try:
            if note is not None:
                await self.budget.learn(upload_id, note)
            if wanted:
                await self.move(upload_id, wanted)
        except SluiceError as error:
            _log.warning("ledger.left_to_the_walk", upload_id=upload_id, reason=error.reason)

    def _time(self) -> str:
        return "" if self._clock is None else f"{self._clock()!r}"


def _moves(flat: Sequence[bytes]) -> list[tuple[str, float | None]]:
    """Pairs from kind, score, kind, …; an empty score is None."""
    return [
        (kind.decode(), float(score) if score else None)
        for kind, score in zip(flat[::2], flat[1::2], strict=True)
    ]
