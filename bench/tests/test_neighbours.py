"""NEIGHBOURS and AUTH: what is measured, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench.deployment import Deployment
from bench.latency import Latencies
from bench.load.chunk_sender import Figures, LoadFailedError
from bench.load.schedule import Schedule
from bench.load.tenant import parse, until_full
from bench.measurement import Measured
from bench.processes import beside
from bench.scenarios import auth, neighbours
from bench.slow_store import Line, slow_down

GENERATOR = '''"""A load that needs a second signal."""
import json, sys
print(json.dumps({"ready": True}), flush=True)
print(json.dumps({"stopped": sys.stdin.readline() == "\\n"}), flush=True)
sys.stdin.read()
'''


def measured(*milliseconds: float) -> Measured:
    latencies = Latencies()
    for each in milliseconds:
        latencies.record(each / 1000)
    return Measured({neighbours.SINCE_DUE: latencies.to_json()}, {})


def test_gate_is_the_ratio_of_the_99th_percentiles() -> None:
    alone, both = measured(*[1.0] * 99, 100.0), measured(*[2.0] * 98, 3.0, 3.0)
    found = neighbours.Round(alone, both, measured(1.0))
    assert found.ratio == pytest.approx(3.0, rel=0.01)


async def test_budget_is_full_when_every_stream_is_delayed() -> None:
    figures = Figures(throttled=9)
    with pytest.raises(LoadFailedError, match="not full"):
        await until_full(figures, 10, limit=0.0)
    figures.throttled = 10
    await until_full(figures, 10, limit=0.0)


async def test_ended_schedule_has_no_further_chunk() -> None:
    schedule = Schedule(seconds=float("inf"))
    assert await schedule.take() is not None
    schedule.end()
    assert await schedule.take() is None


async def test_restarted_schedule_lasts_its_whole_time() -> None:
    now = 0.0
    schedule = Schedule(seconds=5.0, clock=lambda: now)
    now = 100.0
    assert await schedule.take() is None
    schedule.restart()
    assert await schedule.take() == 100.0


def test_load_runs_until_the_end_of_the_block(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "generator_of_a_test.py").write_text(GENERATOR)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with beside("generator_of_a_test") as figures:
        assert figures == {}
    assert figures == {"stopped": True}


def test_large_tenant_sends_ten_times_as_much(tmp_path: Any) -> None:
    sluice = Deployment(3, {}, "drive", {"intake": SimpleNamespace(address="h:1")})  # type: ignore[dict-item]
    small, large = (
        parse([*neighbours._arguments(sluice, tmp_path / "token", streams), "--flood"])
        for streams in (1, neighbours.TIMES_AS_MUCH)
    )
    assert large.streams * large.pace == 10 * small.streams * small.pace
    assert large.chunk_bytes == small.chunk_bytes
    # The budget fills, and the fair share of the small one suffices for it.
    assert large.streams * large.pace > neighbours.STORE_BYTES_PER_SECOND > 2 * small.pace


async def test_line_carries_bodies_one_after_the_other() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    now = 100.0
    line = Line(10.0, lambda: now, sleep)
    await line.carry(20)
    await line.carry(30)
    now = 106.0
    await line.carry(10)
    assert waits == [2.0, 5.0, 1.0]


async def test_store_waits_for_the_line() -> None:
    class Store:
        async def put(self, ref: str, body: Any, attributes: None) -> str:
            return ref

        async def put_part(self, ref: str, multipart_id: str, number: int, body: Any) -> int:
            return number

    carried: list[int] = []

    class Recorded(Line):
        async def carry(self, size: int) -> None:
            carried.append(size)

    slow_down(Store, Recorded(1.0))
    store = Store()
    assert await store.put("ref", SimpleNamespace(size=7), None) == "ref"
    assert await store.put_part("ref", "multipart", 3, SimpleNamespace(size=9)) == 3
    assert carried == [7, 9]


def test_every_other_turn_begins_with_the_other_side() -> None:
    order: list[str] = []
    sides: Any = {auth.WITHOUT: "plain", auth.JWT: "keys"}

    def one(side: Any) -> str:
        order.append(side)
        return f"measured {side}"

    for turn in (0, 1):
        pair = auth.in_turns(sides, turn, one)
        assert pair == {auth.WITHOUT: "measured plain", auth.JWT: "measured keys"}
    assert order[:2] == order[:1:-1]


def test_cost_of_authentication_is_the_ratio_of_rates() -> None:
    pair = {
        side: Measured({"bytes": size, "seconds": 1.0}, {})
        for side, size in ((auth.WITHOUT, 200_000_000), (auth.JWT, 194_000_000))
    }
    assert auth.ratio(pair) == pytest.approx(0.97)
