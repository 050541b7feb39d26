"""Supported backend combinations, and errors for the others."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sluice_core.combinations import (
    SUPPORTED_COMBINATIONS,
    BackendCombination,
    CatalogueKind,
    ChunkTransport,
    Coordination,
    Durability,
    Events,
    Objects,
    check_combination,
    nearest_supported,
)
from sluice_core.configuration import ConfigurationError

ALL = [
    BackendCombination(*each)
    for each in product(Coordination, ChunkTransport, Objects, Events, CatalogueKind)
]
STANDALONE = BackendCombination(
    Coordination.EMBEDDED, ChunkTransport.LOCAL, Objects.FILES, Events.LOG, CatalogueKind.SQLITE
)
PHASE_1 = BackendCombination(
    Coordination.MEMORY, ChunkTransport.LOCAL, Objects.DISCARD, Events.OFF, CatalogueKind.OFF
)
RUNNING = {
    combination: row.name for row in SUPPORTED_COMBINATIONS for combination in row.combinations()
}


@pytest.mark.parametrize(("combination", "name"), RUNNING.items(), ids=str)
def test_every_combination_of_the_table_is_supported(
    combination: BackendCombination, name: str
) -> None:
    assert check_combination(combination, Durability.MEMORY).name == name


@given(combination=st.sampled_from(ALL))
def test_error_names_the_nearest_supported_combination(combination: BackendCombination) -> None:
    assume(combination not in RUNNING)
    with pytest.raises(ConfigurationError) as caught:
        check_combination(combination, Durability.MEMORY)
    line = str(caught.value)
    nearest = nearest_supported(combination)
    assert nearest in RUNNING
    assert RUNNING[nearest] in line
    assert "\n" not in line
    # Applying the advice yields a supported combination, and no shorter change does.
    for name in combination.differing(nearest):
        assert f"SLUICE_{name.upper()}={getattr(nearest, name)}" in line
    steps = len(combination.differing(nearest))
    assert steps == min(len(combination.differing(other)) for other in RUNNING)


def test_the_table_has_every_row_of_the_protocol() -> None:
    assert [row.name for row in SUPPORTED_COMBINATIONS] == [
        "standalone",
        *(f"phase {number}" for number in range(1, 7)),
    ]
    redis = {m for m in RUNNING if m.coordination is Coordination.REDIS}
    # Redis, Kafka and S3 toggle independently.
    for objects, events in product((Objects.DISCARD, Objects.S3), (Events.OFF, Events.KAFKA)):
        combination = BackendCombination(
            Coordination.REDIS, ChunkTransport.REDIS, objects, events, CatalogueKind.OFF
        )
        assert combination in redis


def test_no_combination_is_in_two_rows() -> None:
    every = [combination for row in SUPPORTED_COMBINATIONS for combination in row.combinations()]
    assert len(every) == len(set(every))


@pytest.mark.rule(6)
@pytest.mark.parametrize(
    ("combination", "durability"),
    [
        (PHASE_1, Durability.FSYNC),
        (PHASE_1, Durability.REPLICATED),
        (STANDALONE, Durability.REPLICATED),
    ],
)
def test_unsupported_durability_is_rejected(
    combination: BackendCombination, durability: Durability
) -> None:
    with pytest.raises(ConfigurationError, match="SLUICE_DURABILITY"):
        check_combination(combination, durability)


def test_standalone_supports_fsync() -> None:
    assert check_combination(STANDALONE, Durability.FSYNC).standalone_only
