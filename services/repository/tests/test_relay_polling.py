"""How often a relay polls when nothing wakes it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sluice_repository.options import RepositoryOptions
from sluice_repository.roles.relay import Relay
from support.roles import World, pieces
from support.waiting import until


def test_idle_relay_polls_less_often() -> None:
    options = RepositoryOptions()
    assert options.relay_pause_seconds(options.relay_idle_after_seconds - 0.1) == 0.2
    assert options.relay_pause_seconds(options.relay_idle_after_seconds) == 0.5
    rare = replace(options, relay_poll_seconds=60.0)
    assert rare.relay_pause_seconds(options.relay_idle_after_seconds) == 60.0


async def test_idle_relay_finds_events_without_a_wakeup(world: World) -> None:
    options = replace(
        world.deps.options, relay_idle_after_seconds=0.0, relay_idle_poll_seconds=0.05
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(Relay(replace(world.deps, options=options)).run(stop))
        upload = await world.begin(pieces(2_300, 500))
        await until(lambda: world.publisher.types(upload.new.node_id) == ["UploadInitiated"])
        stop.set()
        world.deps.relay_wakeup.set()


async def test_wakeup_of_a_standby_is_over_with_its_pass(world: World) -> None:
    """What completes in its process wakes it; without the lease it then waits for the next poll."""
    wakeup = asyncio.Event()
    standby = Relay(replace(world.deps, holder="another", relay_wakeup=wakeup))
    await world.begin(pieces(2_300, 500))
    assert await Relay(world.deps).relay_once() > 0
    await world.begin(pieces(2_300, 500))
    wakeup.set()
    assert await standby.relay_once() == 0, "the other one has the lease"
    assert not wakeup.is_set()
