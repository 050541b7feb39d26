"""Properties of the capacity model, and its bounds."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.capacity import facts
from bench.capacity.costs import Cost, Costs, Sample, fit
from bench.capacity.limits import limits
from bench.capacity.model import (
    Allowance,
    Integrity,
    Load,
    Need,
    Plan,
    budget_calls,
    pieces,
    plan,
    put_seconds,
    whole,
    writes_per_file,
)
from bench.capacity.shipped import read_shipped
from bench.units import GIB, MB, MIB

SHIPPED = read_shipped()
COSTS = Costs(
    services={
        "intake": Cost(1.0, 0.004),
        "repository": Cost(1.0, 0.006),
        "redis": Cost(1.2, 0.002),
        "mysql": Cost(0.03, 0.0006),
    },
    photo_seconds=0.1,
    kafka_seconds=0.001,
    gateway_seconds=0.01,
    photo_bytes=4 * MB,
    stream_bytes_per_second=5 * MB,
)
_INDEPENDENT_OF_RATE = frozenset({"load", "intake_memory_mib", "catalogue_bytes"})

costs = st.builds(
    Cost, st.floats(0.01, 20, allow_subnormal=False), st.floats(1e-5, 1, allow_subnormal=False)
)
loads = st.builds(
    Load,
    bytes_per_second=st.floats(1 * MB, 1e6 * MB),
    objects=st.floats(1, 1e12),
    file_bytes=st.floats(1024, 1000 * GIB),
    photo_share=st.floats(0, 1),
    stream_bytes_per_second=st.floats(0.1 * MB, 1000 * MB),
    integrity=st.sampled_from(Integrity),
)
allowances = st.builds(Allowance, st.floats(0.1, 64), st.floats(0, 0.9))


def planned(load: Load, own: Costs = COSTS, allowance: Allowance | None = None) -> Plan:
    return plan(load, own, SHIPPED, allowance or Allowance())


def of(**changes: object) -> Load:
    load = Load(1000 * MB, 1e9, 4 * MB, 1.0, 5 * MB)
    return replace(load, **changes)  # type: ignore[arg-type]


def amounts(needed: Plan) -> dict[str, float]:
    """Return every amount that belongs to the rate, before rounding."""
    found = {}
    for field in fields(needed):
        value = getattr(needed, field.name)
        if field.name not in _INDEPENDENT_OF_RATE and value is not None:
            found[field.name] = value.exact if isinstance(value, Need) else value
    return found


@given(loads, st.floats(1, 1000), allowances)
def test_more_load_never_needs_less(load: Load, factor: float, allowance: Allowance) -> None:
    more = replace(load, bytes_per_second=load.bytes_per_second * factor)
    before, after = planned(load, allowance=allowance), planned(more, allowance=allowance)
    for name in ("intake", "repository", "processor", "redis", "partitions", "drives"):
        assert getattr(before, name).count <= getattr(after, name).count, name


@given(loads, st.floats(0.001, 1000), allowances)
def test_needs_are_in_proportion_to_the_rate(
    load: Load, factor: float, allowance: Allowance
) -> None:
    before = amounts(planned(load, allowance=allowance))
    scaled = replace(load, bytes_per_second=load.bytes_per_second * factor)
    after = amounts(planned(scaled, allowance=allowance))
    for name, amount in before.items():
        own = 1 / factor if name == "seconds_to_store" else factor
        assert after[name] == pytest.approx(amount * own), name


@given(loads, allowances, st.floats(1, 100))
def test_scaled_costs_scale_pods_by_processor_time(
    load: Load, allowance: Allowance, factor: float
) -> None:
    """Twice the CPU seconds are twice the pods, but for the rounding of both."""
    scaled = replace(
        COSTS,
        services={
            name: Cost(cost.seconds_per_gib * factor, cost.seconds_per_file * factor)
            for name, cost in COSTS.services.items()
        },
        photo_seconds=COSTS.photo_seconds * factor,
    )
    load = replace(load, integrity=Integrity.CRC)
    before, after = planned(load, allowance=allowance), planned(load, scaled, allowance)
    for name in ("intake", "repository", "processor", "redis"):
        (one, *_), (other, *_) = getattr(before, name).reasons, getattr(after, name).reasons
        assert one.name == other.name == "processor time"
        assert other.amount == pytest.approx(one.amount * factor), name
    expected = before.processor.exact * factor
    assert after.processor.count == pytest.approx(expected, rel=1e-6, abs=1)


@given(loads, allowances)
def test_pods_carry_the_load_within_their_headroom(load: Load, allowance: Allowance) -> None:
    needed = planned(load, allowance=allowance)
    for cores, need in (
        (needed.intake_cores, needed.intake),
        (needed.repository_cores, needed.repository),
        (needed.processor_cores, needed.processor),
    ):
        assert cores <= need.count * allowance.usable_cores * (1 + 1e-6)
    assert needed.streams <= needed.intake.count * SHIPPED.streams_per_intake * (1 + 1e-6)
    assert needed.redis_cores <= needed.redis.count * allowance.usable * (1 + 1e-6)


@given(loads, st.floats(0.1, 64), st.floats(0, 0.4), st.floats(0.01, 0.5))
def test_more_headroom_never_needs_less(
    load: Load, share: float, headroom: float, more: float
) -> None:
    before = planned(load, allowance=Allowance(share, headroom))
    after = planned(load, allowance=Allowance(share, headroom + more))
    for name in ("intake", "repository", "processor", "redis"):
        assert getattr(before, name).count <= getattr(after, name).count, name


@given(costs, st.floats(1024, 100 * MB), st.floats(1.5, 1000))
def test_fit_finds_the_cost_behind_two_samples(cost: Cost, small: float, factor: float) -> None:
    def sample(size: float) -> Sample:
        return Sample(size, cost.cores(GIB, GIB / size))

    found = fit(sample(small * factor), sample(small))
    assert found.cores(GIB, GIB / small) == pytest.approx(cost.cores(GIB, GIB / small))
    assert found.seconds_per_file == pytest.approx(cost.seconds_per_file, rel=1e-6)


@given(st.floats(0, 10), st.floats(0, 10), st.floats(1024, 1e9), st.floats(1.01, 1000))
def test_fit_is_never_negative(large: float, small: float, size: float, factor: float) -> None:
    cost = fit(Sample(size * factor, large), Sample(size, small))
    assert cost.seconds_per_gib >= -1e-9
    assert cost.seconds_per_file >= 0


def test_fit_of_equal_sizes_is_an_error() -> None:
    with pytest.raises(ValueError, match="not smaller"):
        fit(Sample(MIB, 1), Sample(MIB, 2))


def test_units_of_a_load_that_is_computed_by_hand() -> None:
    """1 GiB/s in files of 4 MiB, so 256 a second, of which each sends one part."""
    needed = planned(of(bytes_per_second=GIB, file_bytes=4 * MIB, photo_share=0.5))
    assert needed.intake_cores == pytest.approx(1.0 + 256 * 0.004)
    assert needed.intake.count == 3
    assert needed.processor_cores == pytest.approx(12.8)
    assert needed.processor.count == 19
    assert needed.partitions.count == 19
    assert needed.parts_in_flight == pytest.approx(256 * (0.2 + 4 * MIB / (85 * MB)))
    assert needed.record_bytes == 256 * 24 * 3600 * 4096
    assert (needed.writes, needed.thumbnail_writes, needed.reads) == (256, 256, 256)
    assert (needed.mysql_transactions, needed.events) == (640, 640)
    assert needed.budget_cores == pytest.approx(256 * 7 * 61e-6)
    assert needed.catalogue_bytes == 2048e9
    assert needed.seconds_to_store == pytest.approx(1e9 / 256)
    assert needed.gateway is not None
    assert needed.gateway.exact == pytest.approx(1.28 / 0.7)


def test_hashing_costs_where_files_have_several_parts() -> None:
    def cores(size: float, integrity: Integrity) -> float:
        load = of(bytes_per_second=GIB, file_bytes=size, integrity=integrity)
        return planned(load).repository_cores

    more = cores(GIB, Integrity.SHA256_ASYNC) - cores(GIB, Integrity.CRC)
    assert more == pytest.approx(facts.HASHING.value)
    assert cores(MIB, Integrity.SHA256_ASYNC) == cores(MIB, Integrity.CRC)


def test_requests_of_a_file() -> None:
    assert [pieces(size * MIB, 8 * MIB) for size in (0.001, 8, 8.1, 64)] == [1, 1, 2, 8]
    assert [writes_per_file(parts) for parts in (1, 2, 8)] == [1, 4, 10]
    assert budget_calls(chunks=2, parts=3) == 2 * 4 + 3 + 2
    assert put_seconds(0) < put_seconds(8 * MIB)


def test_memory_decides_where_streams_are_slow() -> None:
    slow = planned(of(stream_bytes_per_second=0.1 * MB))
    assert slow.intake.decided_by.name == "memory of the streams"
    assert slow.intake.count == 50
    assert slow.intake_memory_mib == pytest.approx(130 + 200 * 5)


def test_rounding_error_adds_no_pod() -> None:
    assert whole(3 * (1 + 1e-12)) == 3
    assert whole(3.001) == 4
    assert whole(0) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"bytes_per_second": 0},
        {"objects": 0},
        {"file_bytes": -1},
        {"photo_share": 1.1},
        {"stream_bytes_per_second": 0},
    ],
)
def test_load_that_cannot_be_is_an_error(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a load is more than 0"):
        of(**changes)


@pytest.mark.parametrize(("share", "headroom"), [(0, 0.3), (1, 1), (1, -0.1)])
def test_allowance_that_cannot_be_is_an_error(share: float, headroom: float) -> None:
    with pytest.raises(ValueError, match="headroom"):
        Allowance(share, headroom)


@given(loads, allowances)
def test_bounds_are_reached_in_their_order(load: Load, allowance: Allowance) -> None:
    """At the rate that a bound names, it is reached, and none below it in the list is passed."""
    found = limits(planned(load, allowance=allowance), SHIPPED, allowance)
    assert [limit.ratio for limit in found] == sorted((x.ratio for x in found), reverse=True)
    first = found[0]
    rate = first.reached_at(load.bytes_per_second)
    there = limits(
        planned(replace(load, bytes_per_second=rate), allowance=allowance), SHIPPED, allowance
    )
    assert next(x.ratio for x in there if x.name == first.name) == pytest.approx(1)
    assert max(limit.ratio for limit in there) == pytest.approx(1)


def test_load_without_photos_needs_no_decoder() -> None:
    needed = planned(of(photo_share=0))
    assert needed.processor.count == 0
    assert needed.partitions.count == 1
    names = {limit.name for limit in limits(needed, SHIPPED, Allowance())}
    assert "pods of processor" not in names
    assert "pods of intake" in names
