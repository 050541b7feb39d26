"""Simulation of rule 9: some upload can always progress, in any order of chunks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.ledger.budget import VANISHED_HOLDERS
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import MIB, UploadStatus
from support.ledgers import Driver, FakeClock

UPLOADS = 200
CHUNKS = 10
CHUNK = 2 * MIB
PART = 5 * MIB
OPTIONS = LedgerOptions(budget_bytes=64 * MIB, max_chunk_bytes=CHUNK)
LARGEST_PART = 3 * CHUNK
RESERVE = LARGEST_PART + CHUNK

PATIENCE_TICKS = 1
TICK_SECONDS = 0.5
MOST_TICKS = 5_000
QUIET_TICKS = 60
"""When nothing moves for so long, only the expiry of those who vanished can help."""


@dataclass
class Client:
    upload_id: str
    left: list[int]
    vanishes_at: int
    refused_ticks: int = 0
    done: bool = field(default=False)

    @property
    def gone(self) -> bool:
        return len(self.left) <= self.vanishes_at

    async def step(self, driver: Driver) -> bool:
        """Send one chunk, or complete; return False when there is nothing to do or no room."""
        if not self.left:
            await driver.complete(self.upload_id, CHUNKS)
            self.done = True
            return True
        number = self.left[0]
        offer = driver.offer(self.upload_id, number, CHUNK)
        admission = await driver.ledger.admit_chunk(offer)
        if admission.granted:
            await driver.ledger.accept_chunk(offer, number)
            self.left.remove(number)
            self.refused_ticks = 0
            return True
        self.refused_ticks += 1
        if self.refused_ticks >= PATIENCE_TICKS and admission.needed_number in self.left:
            self.left.remove(admission.needed_number)
            self.left.insert(0, admission.needed_number)
        return False


async def start(driver: Driver, order: str, vanishing: float, rng: random.Random) -> list[Client]:
    clients = []
    for index in range(UPLOADS):
        numbers = list(range(CHUNKS))
        if order == "backwards":
            numbers.reverse()
        elif order == "shuffled":
            rng.shuffle(numbers)
        chunk_size = CHUNK if index % 2 else None
        upload_id = await driver.create(chunk_size=chunk_size, part_bytes=PART)
        driver.clock.advance(0.001)
        vanishes_at = rng.randrange(1, CHUNKS) if rng.random() < vanishing else -1
        clients.append(Client(upload_id, numbers, vanishes_at))
    return clients


@pytest.mark.no_cover
@pytest.mark.rule(9)
@pytest.mark.parametrize("vanishing", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
@pytest.mark.parametrize(
    "order",
    [
        pytest.param("forwards", marks=pytest.mark.slow),
        pytest.param("backwards", marks=pytest.mark.slow),
        "shuffled",
    ],
)
async def test_rule_9_200_uploads_through_64_mib_never_deadlock(
    order: str, vanishing: float
) -> None:
    """Each of 200 clients sends 10 chunks, in shuffled, backward or forward order, declared or not.

    Some vanish halfway. A client whose chunk is rejected waits, and after a while sends the chunk
    that the ledger names first, as the SDK does. Time is simulated.
    """
    rng = random.Random(f"{order} {vanishing}")
    driver = Driver(MemoryLedger(OPTIONS, clock := FakeClock()), clock)
    clients = await start(driver, order, vanishing, rng)
    most_queued, quiet_ticks = 0, 0
    for _ in range(MOST_TICKS):
        active = [c for c in clients if not c.done and not c.gone]
        if not active:
            break
        rng.shuffle(active)
        moved = False
        for client in active:
            moved = await client.step(driver) or moved
        most_queued = max(most_queued, (await driver.ledger.backlog()).queued_bytes)
        for upload_id, part in (await driver.ready())[:4]:  # a slow worker
            await driver.store(upload_id, part)
            moved = True
        quiet_ticks = 0 if moved else quiet_ticks + 1
        clock.advance(TICK_SECONDS)
        if quiet_ticks >= QUIET_TICKS:
            clock.advance(300)
            await driver.ledger.expire_due(1_000)
    assert not [c for c in clients if not c.done and not c.gone], "a client is stuck"
    lost = VANISHED_HOLDERS * LARGEST_PART if vanishing else 0
    assert most_queued <= OPTIONS.budget_bytes + RESERVE + lost
    await driver.store_all()
    for client in clients:
        if client.done:
            assert (await driver.finish(client.upload_id)).status is UploadStatus.COMPLETED
