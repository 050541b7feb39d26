"""Memory of the in-process live updates: logs without news and listeners are forgotten."""

from __future__ import annotations

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_core.live.updates import Audience, Update

UPDATE = Update("job", "photo", "QUEUED", 0, 1, 1)


async def test_idle_logs_are_forgotten_and_listened_ones_stay() -> None:
    now = 1_000.0
    updates = MemoryLiveUpdates(retention_seconds=60.0, clock=lambda: now)
    listened = Audience("t", "listens")
    async with updates.listen(listened) as listening:
        for number in range(1_500):
            await updates.publish(Audience("t", f"user-{number}"), [UPDATE])
        now += 61.0
        recent = Audience("t", "recent")
        await updates.publish(recent, [UPDATE])
        for number in range(1_500, 3_000):
            await updates.publish(Audience("t", f"user-{number}"), [UPDATE])
        assert updates.audience_count < 2_000
        assert await updates.latest(Audience("t", "user-0"), ["photo"]) == [None]
        assert await updates.latest(recent, ["photo"]) == [UPDATE]
        await updates.publish(listened, [UPDATE])
        assert listening.changed.is_set()
        assert listening.log.find("photo") == UPDATE


async def test_clock_set_back_does_not_repeat_sequences() -> None:
    now = 1_000.0
    updates = MemoryLiveUpdates(clock=lambda: now)
    user = Audience("t", "s")
    async with updates.listen(user) as listening:
        await updates.publish(user, [UPDATE])
        before = listening.log.last
        now -= 500.0
        await updates.publish(user, [Update("job", "photo", "UPLOADING", 0, 1, 2)])
        assert listening.log.last == before + 1
