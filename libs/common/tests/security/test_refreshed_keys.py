"""Refreshed keys: when they are loaded, who causes it, and what serves in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from sluice_backends.instruments import Registry
from sluice_common.security.keys.key_ring import KeyRing, UnusableKeys, key_set
from sluice_common.security.keys.refreshing import LOAD_SECONDS, LoadedKeys, RefreshedKeys
from sluice_common.security.metrics import TokenMetrics
from support import tokens
from support.virtual_time import in_virtual_time

OLD = key_set(tokens.key_set(tokens.rsa_key()))
NEW = key_set(tokens.key_set(tokens.rsa_key("rsa-2"), tokens.ec_key()))
FRESH_SECONDS = 1000.0


async def _at_once() -> None:
    pass


class Loader:
    """A source whose answers the test sets; notes the times of loads."""

    retry_seconds = 30.0
    unknown_key_seconds = 30.0

    def __init__(self) -> None:
        self.answer: KeyRing | Exception = OLD
        self.wait: Callable[[], Awaitable[object]] = _at_once
        self.loaded_at: list[float] = []

    async def load(self) -> LoadedKeys:
        self.loaded_at.append(asyncio.get_running_loop().time())
        await self.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return LoadedKeys(self.answer, FRESH_SECONDS)


class Stage:
    """Keys, their loader and their metrics; `clock` is the wall clock."""

    def __init__(self) -> None:
        self.loader = Loader()
        self.registry = Registry()
        self.clock = tokens.DrivenClock()
        self.keys = RefreshedKeys(self.loader, TokenMetrics(self.registry), clock=self.clock)

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"sluice_auth_keys{name}")


@in_virtual_time
async def test_keys_are_refreshed_before_they_expire() -> None:
    stage = Stage()
    await stage.keys.load()
    async with stage.keys.refreshing():
        await asyncio.sleep(FRESH_SECONDS * 2.5)
    assert stage.loader.loaded_at == [0, FRESH_SECONDS, 2 * FRESH_SECONDS]


@in_virtual_time
async def test_last_good_keys_serve_while_the_source_is_down() -> None:
    stage = Stage()
    await stage.keys.load()
    stage.loader.answer = UnusableKeys("down")
    stage.clock.now += 5000
    with capture_logs() as logs:
        async with stage.keys.refreshing():
            await asyncio.sleep(FRESH_SECONDS + 65)
            assert stage.keys.keys is OLD
            assert stage.metric("_refresh_failures_total") == 3, "every 30 s"
            assert stage.metric("_refreshed_timestamp_seconds") == tokens.NOW, "since then"
            stage.loader.answer = NEW
            await asyncio.sleep(30)
    assert stage.keys.keys is NEW
    assert stage.metric("") == 2
    assert stage.metric("_refreshed_timestamp_seconds") == tokens.NOW + 5000
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("auth_keys.refresh_failed", "warning"),  # once, not with every attempt
        ("auth_keys.refreshed", "info"),
    ]


@in_virtual_time
async def test_first_keys_are_retried_soon() -> None:
    """Without any keys all calls are refused, so that 30 s would be long."""
    stage = Stage()
    stage.loader.answer = UnusableKeys("down")
    async with stage.keys.refreshing():
        await asyncio.sleep(5)
        assert stage.loader.loaded_at == [0, 2, 4]
        stage.loader.answer = OLD
        await asyncio.sleep(2)
    assert stage.keys.keys is OLD


@in_virtual_time
async def test_unknown_key_refreshes_at_once() -> None:
    stage = Stage()
    await stage.keys.load()
    async with stage.keys.refreshing():
        await asyncio.sleep(1)
        stage.loader.answer = NEW
        assert await stage.keys.find_unknown() is None
        assert stage.keys.keys is NEW
        assert asyncio.get_running_loop().time() == 1


@in_virtual_time
async def test_invented_keys_cost_one_refresh_in_30_seconds() -> None:
    stage = Stage()
    await stage.keys.load()
    async with stage.keys.refreshing():
        await asyncio.sleep(10)
        for _ in range(59):
            await stage.keys.find_unknown()
            await asyncio.sleep(1)
    assert stage.loader.loaded_at == [0, 10, 40]


@in_virtual_time
async def test_concurrent_unknown_keys_share_a_refresh() -> None:
    stage = Stage()
    await stage.keys.load()

    async def slowly() -> None:
        await asyncio.sleep(3)

    stage.loader.wait = slowly
    async with stage.keys.refreshing():
        await asyncio.sleep(1)
        stage.loader.answer = NEW

        async def ask(delay_seconds: float) -> bool:
            await asyncio.sleep(delay_seconds)
            await stage.keys.find_unknown()
            return stage.keys.keys is NEW

        assert all(await asyncio.gather(*(ask(number / 10) for number in range(20))))
        assert asyncio.get_running_loop().time() == 4, "nobody waits for a second one"
    assert stage.loader.loaded_at == [0, 1]


@in_virtual_time
async def test_cancelled_caller_does_not_stop_the_refresh() -> None:
    stage = Stage()
    await stage.keys.load()

    async def slowly() -> None:
        await asyncio.sleep(3)

    stage.loader.wait = slowly
    async with stage.keys.refreshing():
        stage.loader.answer = NEW
        async with asyncio.TaskGroup() as group:
            first = group.create_task(stage.keys.find_unknown())
            second = group.create_task(stage.keys.find_unknown())
            await asyncio.sleep(1)
            first.cancel()
        assert second.result() is None
        assert stage.keys.keys is NEW


@in_virtual_time
async def test_silent_source_times_out() -> None:
    stage = Stage()
    stage.loader.wait = asyncio.Event().wait
    with pytest.raises(UnusableKeys, match="no answer"):
        await stage.keys.load()
    assert asyncio.get_running_loop().time() == LOAD_SECONDS
    assert stage.metric("_refresh_failures_total") == 1


@in_virtual_time
async def test_defect_of_a_load_keeps_the_keys_and_is_logged() -> None:
    stage = Stage()
    await stage.keys.load()
    stage.loader.answer = ZeroDivisionError("a defect")
    with capture_logs() as logs:
        async with stage.keys.refreshing():
            await asyncio.sleep(FRESH_SECONDS + 1)
            stage.loader.answer = NEW
            await asyncio.sleep(31)
    assert stage.keys.keys is NEW
    assert [line["log_level"] for line in logs] == ["error"]


@in_virtual_time
async def test_rationed_search_says_when_to_try_again() -> None:
    """A key that is added after somebody's invented one is found by a later try."""
    stage = Stage()
    await stage.keys.load()
    async with stage.keys.refreshing():
        await asyncio.sleep(10)
        assert await stage.keys.find_unknown() is None
        stage.loader.answer = NEW
        await asyncio.sleep(10)
        assert await stage.keys.find_unknown() == 20
        assert stage.keys.keys is OLD
        await asyncio.sleep(20)
        assert await stage.keys.find_unknown() is None
        assert stage.keys.keys is NEW


@in_virtual_time
async def test_failed_search_knows_nothing() -> None:
    stage = Stage()
    await stage.keys.load()
    stage.loader.answer = UnusableKeys("down")
    async with stage.keys.refreshing():
        assert await stage.keys.find_unknown() == 30


@in_virtual_time
async def test_search_that_began_earlier_proves_nothing() -> None:
    """Its answer may be older than the key."""
    stage = Stage()
    await stage.keys.load()

    async def slowly() -> None:
        await asyncio.sleep(3)

    stage.loader.wait = slowly
    async with stage.keys.refreshing(), asyncio.TaskGroup() as group:
        first = group.create_task(stage.keys.find_unknown())
        await asyncio.sleep(1)
        second = group.create_task(stage.keys.find_unknown())
    assert first.result() is None
    assert second.result() == 27
