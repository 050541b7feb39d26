"""Repeated kills at each step of a photo: of `sluice serve`, and of separate services."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from support.gateway_stages import GatewayStage, gateway_stage
from support.photo_user import PhotoUser, SentPhoto, photo_user, picture
from support.waiting import until

KILLS: Final = int(os.environ.get("SLUICE_GATEWAY_KILLS", "50"))
STEPS: Final = ("create", "put", "finalize", "event", "projection", "delete")
LARGE_BYTES: Final = 5 * 1024 * 1024 + 1000
"""Sent in parts."""
LONGEST_MOMENT_SECONDS: Final = 0.3

T = TypeVar("T")


class Breaker:
    """Kills a process in the middle of one step of each round."""

    def __init__(self, stage: GatewayStage, user: PhotoUser, seed: int) -> None:
        self.stage = stage
        self.user = user
        self.dice = random.Random(seed)
        self.step = ""
        self.kills: Counter[str] = Counter()
        self._took: dict[str, float] = {}

    async def during(self, step: str, work: Coroutine[Any, Any, T]) -> T:
        """Do the work; if this is the step to break, a process is killed at a random moment."""
        begun = time.monotonic()
        task = asyncio.create_task(work)
        try:
            if step == self.step:
                longest = self._took.get(step, LONGEST_MOMENT_SECONDS)
                await asyncio.sleep(self.dice.uniform(0, longest))
                self.kills[f"{step}: {await self.stage.kill(step, self.user)}"] += 1
            done = await task
        finally:
            task.cancel()
        if step != self.step:
            self._took[step] = time.monotonic() - begun
        return done


@pytest.mark.parametrize(
    ("kind", "kills", "steps"),
    [
        # Each step once between the two: a restart takes seconds.
        pytest.param("embedded", 4, ("create", "put", "event", "delete"), id="embedded, a few"),
        pytest.param("services", 2, ("finalize", "projection"), id="services, a few"),
        *(
            pytest.param(
                kind,
                KILLS,
                STEPS,
                id=f"{kind}, fifty kills",
                marks=[pytest.mark.slow_fault, pytest.mark.timeout(2400)],
            )
            for kind in ("embedded", "services")
        ),
    ],
)
async def test_photos_survive_kills_at_each_step(
    tmp_path: Path, kind: str, kills: int, steps: Sequence[str]
) -> None:
    """Each photo ends as its user wants it, with its bytes, its thumbnails and its events; nothing
    is left over."""
    sent: list[SentPhoto] = []
    async with (
        gateway_stage(kind, tmp_path) as stage,
        photo_user(lambda: stage.gateways) as user,
    ):
        breaker = Breaker(stage, user, seed=kills)
        for kill in range(kills):
            breaker.step = steps[kill % len(steps)]
            sent += await one_round(breaker, kill)
        settled = await stage.settled(user, sent)
        assert breaker.kills.total() == kills
        await stage.judge(user, sent)
    fates = Counter(photo.fate for photo in sent)
    print(  # noqa: T201 - figures of the run
        f"{kind}: {dict(breaker.kills)} killed, {dict(fates)}, {user.repeats} requests repeated,"
        f" settled in {settled:.1f} s"
    )


async def one_round(breaker: Breaker, number: int) -> list[SentPhoto]:
    """Send a job of four or five photos, with a kill in one of the steps; return the photos."""
    user = breaker.user
    contents = [picture(10 * number + each) for each in range(4)]
    if number % 3 == 0 or breaker.step == "finalize":
        contents.append(picture(10 * number + 4, LARGE_BYTES))
    photos, items = await breaker.during("create", user.create(contents))
    abandoned, cancelled, deleted, *kept = photos
    abandoned.fate = "abandoned"

    async def put_all() -> None:
        for photo, item in zip(photos[1:], items[1:], strict=True):
            await user.put(photo, item)

    async def finalize_all() -> None:
        await user.cancel(cancelled)
        for photo in (deleted, *kept):
            await user.finalize(photo)

    async def completed() -> None:
        async def all_are() -> bool:
            statuses = await user.statuses(deleted.job_id)
            return all(statuses[photo.photo_id] == "COMPLETED" for photo in (deleted, *kept))

        await until(all_are, 120.0, "the photos are completed")

    async def under_way() -> None:
        """Wait for the first photo that the events have reached."""

        async def one_is() -> bool:
            statuses = await user.statuses(deleted.job_id)
            return any(status in ("PROCESSING", "COMPLETED") for status in statuses.values())

        await until(one_is, 120.0, "a photo is processed")

    await breaker.during("put", put_all())
    await breaker.during("finalize", finalize_all())
    await breaker.during("event", under_way())
    await breaker.during("projection", completed())
    await breaker.during("delete", user.delete(deleted))
    return photos
