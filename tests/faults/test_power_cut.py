"""Fault 2, power cut of Redis alone: losses of acknowledged writes by `appendfsync`.

They show why `always` is durability class `fsync`, but `everysec` and `no` only class `memory`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis

from support.power_cut import PoweredRedis

VALUE_BYTES = 1024
SLOW_SYNC_SECONDS = 1.5
"""Less than the two seconds for which Redis delays a write during a sync."""


@dataclass
class Acknowledged:
    """The writes that Redis acknowledged, in order, with the time of each response."""

    at: list[float] = field(default_factory=list)

    def write(self, client: Redis) -> None:
        number = len(self.at)
        client.rpush("written", b"%0*d" % (VALUE_BYTES, number))
        self.at.append(time.monotonic())

    def write_for(self, client: Redis, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.write(client)

    def survived(self, server: PoweredRedis) -> int:
        """Return how many writes survived a restart; check that they are a whole prefix."""
        with server.client() as client:
            found = client.lrange("written", 0, -1)
        assert found == [b"%0*d" % (VALUE_BYTES, number) for number in range(len(found))]
        return len(found)


@contextmanager
def running(folder: Path, appendfsync: str, *, sync_takes: float = 0) -> Iterator[PoweredRedis]:
    server = PoweredRedis(folder, appendfsync, sync_takes=sync_takes)
    with server:
        yield server


def test_kill_without_syncs_loses_nothing(tmp_path: Path) -> None:
    # The page cache survives the process, so a kill proves nothing about durability.
    acknowledged = Acknowledged()
    with running(tmp_path, "no") as server:
        with server.client() as client:
            acknowledged.write_for(client, 0.3)
        server.kill()
        server.start()
        assert acknowledged.survived(server) == len(acknowledged.at)


def test_power_cut_without_syncs_loses_everything(tmp_path: Path) -> None:
    acknowledged = Acknowledged()
    with running(tmp_path, "no") as server:
        with server.client() as client:
            acknowledged.write_for(client, 1.5)
        assert server.cut_power() > len(acknowledged.at) * VALUE_BYTES
        server.start()
        assert acknowledged.survived(server) == 0


def test_power_cut_with_everysec_loses_only_recent_writes(tmp_path: Path) -> None:
    acknowledged = Acknowledged()
    with running(tmp_path, "everysec") as server:
        with server.client() as client:
            acknowledged.write_for(client, 2.5)
            while True:
                # Start right after a sync, so that the cut comes before the next one.
                before = server.syncs
                while server.syncs == before:
                    acknowledged.write_for(client, 0.01)
                before = server.syncs
                acknowledged.write_for(client, 0.2)
                if server.syncs == before:
                    break
        server.cut_power()
        synced_at = server.sync_before_last_began
        server.start()
        survived = acknowledged.survived(server)
    assert survived < len(acknowledged.at)
    assert acknowledged.at[survived] > synced_at


def test_kill_during_slow_everysec_sync_loses_unwritten_data(
    tmp_path: Path,
) -> None:
    """With `everysec` Redis responds before it writes while a sync is running, so even a kill
    without a power cut loses acknowledged writes."""
    acknowledged = Acknowledged()
    with running(tmp_path, "everysec", sync_takes=SLOW_SYNC_SECONDS) as server:
        with server.client() as client:
            while client.info("persistence")["aof_buffer_length"] < 10 * VALUE_BYTES:
                acknowledged.write(client)
        server.kill()
        server.start()
        assert acknowledged.survived(server) < len(acknowledged.at)


def test_kill_during_slow_always_sync_loses_nothing(tmp_path: Path) -> None:
    acknowledged = Acknowledged()
    with running(tmp_path, "always", sync_takes=SLOW_SYNC_SECONDS) as server:
        with server.client() as client:
            acknowledged.write_for(client, 2 * SLOW_SYNC_SECONDS)
        server.kill()
        server.start()
        assert acknowledged.survived(server) == len(acknowledged.at)


@pytest.mark.rule(6)
@pytest.mark.parametrize("rewriting", [False, True])
def test_power_cut_with_always_loses_nothing(tmp_path: Path, rewriting: bool) -> None:
    acknowledged = Acknowledged()
    with running(tmp_path, "always") as server:
        for _ in range(2):
            with server.client() as client:
                acknowledged.write_for(client, 0.5)
                if rewriting:
                    client.bgrewriteaof()
                    acknowledged.write_for(client, 0.5)
            server.cut_power()
            server.start()
            assert acknowledged.survived(server) == len(acknowledged.at)
