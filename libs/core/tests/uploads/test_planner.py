"""Parts that S3 accepts, from chunks of any size in any order."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice_core.errors import InvalidArgument
from sluice_core.uploads.checksums import combined_crc32c, crc32c
from sluice_core.uploads.model import (
    DEFAULT_PART_BYTES,
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIB,
    MIN_PART_BYTES,
    ChunkRange,
    PartPlan,
)
from sluice_core.uploads.planner import (
    PARTS_PER_TIER,
    Cut,
    Frontier,
    choose_part_bytes,
    frontier_part_bytes,
    uniform_plan,
)

drive_part_bytes = st.sampled_from([0, MIN_PART_BYTES, 6 * MIB, DEFAULT_PART_BYTES, 64 * MIB])
expected_sizes = st.none() | st.integers(0, MAX_OBJECT_BYTES)
chunk_sizes = st.integers(1, MAX_CHUNK_BYTES) | st.sampled_from([1, MIB, 8 * MIB, 64 * MIB])


def uniform_parts(total_bytes: int, chunk_size: int, part_bytes: int) -> tuple[int, int]:
    """Return (number of parts, bytes of the largest one) without iterating over the chunks."""
    plan = uniform_plan(part_bytes, chunk_size)
    chunks = -(-total_bytes // chunk_size)
    count = plan.part_of_chunk(chunks - 1)
    return count, plan.part_bytes(count)


class TestUniform:
    def test_part_has_as_many_chunks_as_fill_it(self) -> None:
        plan = uniform_plan(8 * MIB, 3 * MIB)
        assert plan.chunks_of_part(1) == ChunkRange(0, 2)
        assert plan.chunks_of_part(2) == ChunkRange(3, 5)

    @pytest.mark.rule(12)
    def test_rule_12_a_part_doubles_after_every_thousand(self) -> None:
        plan = uniform_plan(8 * MIB, 8 * MIB)
        assert plan.chunks_of_part(1000) == ChunkRange(999, 999)
        assert plan.chunks_of_part(1001) == ChunkRange(1000, 1001)
        assert plan.chunks_of_part(2001) == ChunkRange(3000, 3003)

    def test_chunks_larger_than_a_part_form_one_part_each(self) -> None:
        plan = uniform_plan(8 * MIB, 64 * MIB)
        assert plan.chunks_of_part(7) == ChunkRange(6, 6)

    @given(st.integers(0, MAX_CHUNKS - 1), chunk_sizes, st.integers(MIN_PART_BYTES, 64 * MIB))
    def test_part_of_a_chunk_contains_it_in_its_range(
        self, number: int, chunk_size: int, part_bytes: int
    ) -> None:
        plan = uniform_plan(part_bytes, chunk_size)
        chunks = plan.chunks_of_part(plan.part_of_chunk(number))
        assert chunks.first <= number <= chunks.last

    @given(st.integers(1, MAX_PARTS - 1), chunk_sizes, st.integers(MIN_PART_BYTES, 64 * MIB))
    def test_parts_have_no_gap_or_overlap(
        self, part: int, chunk_size: int, part_bytes: int
    ) -> None:
        plan = uniform_plan(part_bytes, chunk_size)
        this, following = plan.chunks_of_part(part), plan.chunks_of_part(part + 1)
        assert following.first == this.last + 1
        assert plan.part_bytes(part) == (this.last - this.first + 1) * chunk_size
        assert part_bytes <= plan.part_bytes(part) <= MAX_PART_BYTES

    @pytest.mark.rule(12)
    @given(st.integers(1, MAX_OBJECT_BYTES), chunk_sizes, drive_part_bytes, st.booleans())
    def test_any_object_fits_the_limits_of_s3(
        self, size: int, chunk_size: int, drive_bytes: int, declared: bool
    ) -> None:
        if -(-size // chunk_size) > MAX_CHUNKS:
            chunk_size = -(-size // MAX_CHUNKS)
        part_bytes = choose_part_bytes(drive_bytes, size if declared else None)
        count, largest = uniform_parts(size, chunk_size, part_bytes)
        assert count <= MAX_PARTS
        assert largest <= MAX_PART_BYTES

    @pytest.mark.rule(12)
    @given(
        st.integers(MIN_PART_BYTES, MAX_PART_BYTES),
        st.integers(1, MAX_PART_BYTES),
        st.integers(1, MAX_PARTS),
    )
    @example(MAX_PART_BYTES, 3 * MIB, 1)
    @example(MAX_PART_BYTES, 3 * 1024 * MIB, MAX_PARTS)
    def test_no_uniform_part_exceeds_the_store_limit(
        self, part_bytes: int, chunk_size: int, part: int
    ) -> None:
        plan = uniform_plan(part_bytes, chunk_size)
        assert 0 < plan.part_bytes(part) <= MAX_PART_BYTES
        assert plan.part_of_chunk(plan.chunks_of_part(part).first) == part

    @pytest.mark.parametrize("chunk_size", [-1, 0, MAX_PART_BYTES + 1, 2**62])
    def test_chunk_larger_than_any_part_is_rejected(self, chunk_size: int) -> None:
        with pytest.raises(InvalidArgument, match="BAD_CHUNK_SIZE"):
            uniform_plan(8 * MIB, chunk_size)

    @pytest.mark.rule(12)
    def test_five_tebibytes_of_small_parts_fit(self) -> None:
        part_bytes = choose_part_bytes(MIN_PART_BYTES, None)
        count, largest = uniform_parts(MAX_OBJECT_BYTES, 6 * MIB, part_bytes)
        assert count <= MAX_PARTS
        assert largest <= MAX_PART_BYTES


def cut_all(part_bytes: int, sizes: list[int]) -> list[Cut]:
    frontier = Frontier(part_bytes)
    cuts = [cut for size in sizes if (cut := frontier.extend(size)) is not None]
    tail = frontier.finish()
    return [*cuts, tail] if tail is not None else cuts


class TestFrontier:
    def test_a_part_is_cut_when_the_run_reaches_its_size(self) -> None:
        frontier = Frontier(10)
        assert frontier.extend(9) is None
        assert frontier.extend(1) == Cut(PartPlan(1, 0, 1), 10)
        assert frontier.extend(25) == Cut(PartPlan(2, 2, 2), 25)

    def test_the_tail_is_cut_when_nothing_follows(self) -> None:
        frontier = Frontier(10)
        frontier.extend(3)
        assert frontier.finish() == Cut(PartPlan(1, 0, 0), 3)
        assert frontier.finish() is None

    def test_an_object_that_ends_with_a_part_has_no_tail(self) -> None:
        frontier = Frontier(10)
        frontier.extend(10)
        assert frontier.finish() is None

    def test_an_empty_object_is_one_part_of_no_chunk(self) -> None:
        assert Frontier(10).finish() == Cut(PartPlan(1, 0, -1), 0)

    def test_a_replaced_chunk_can_complete_a_part(self) -> None:
        frontier = Frontier(10)
        frontier.extend(3)
        assert frontier.resize(6) is None
        assert frontier.resize(1) == Cut(PartPlan(1, 0, 0), 10)

    @pytest.mark.rule(12)
    def test_rule_12_the_size_doubles_after_every_thousand_parts(self) -> None:
        assert frontier_part_bytes(8 * MIB, PARTS_PER_TIER) == 8 * MIB
        assert frontier_part_bytes(8 * MIB, PARTS_PER_TIER + 1) == 16 * MIB

    @pytest.mark.rule(12)
    @given(
        st.lists(st.integers(1, MAX_CHUNK_BYTES), max_size=300),
        st.sampled_from([MIN_PART_BYTES, DEFAULT_PART_BYTES, 64 * MIB]),
    )
    def test_any_chunks_make_parts_that_s3_accepts(self, sizes: list[int], part_bytes: int) -> None:
        cuts = cut_all(part_bytes, sizes)
        assert len(cuts) <= MAX_PARTS
        following = 0
        for number, cut in enumerate(cuts, start=1):
            assert cut.plan.number == number
            assert cut.plan.first_chunk == following
            following = cut.plan.last_chunk + 1
            assert cut.size == sum(sizes[cut.plan.first_chunk : following])
            assert cut.size <= MAX_PART_BYTES
            if number < len(cuts):
                assert cut.size >= MIN_PART_BYTES
        assert following == len(sizes)

    @pytest.mark.rule(12)
    @given(drive_part_bytes)
    def test_an_object_of_unknown_size_reaches_five_tebibytes(self, drive_bytes: int) -> None:
        part_bytes = choose_part_bytes(drive_bytes, None)
        smallest = sum(
            PARTS_PER_TIER * frontier_part_bytes(part_bytes, tier * PARTS_PER_TIER + 1)
            for tier in range(MAX_PARTS // PARTS_PER_TIER)
        )
        assert smallest >= MAX_OBJECT_BYTES

    def test_the_largest_part_leaves_room_for_one_chunk(self) -> None:
        assert frontier_part_bytes(64 * MIB, MAX_PARTS) + MAX_CHUNK_BYTES <= MAX_PART_BYTES


class TestChecksums:
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=40), st.integers(1, 64))
    def test_combined_checksums_are_those_of_the_whole(
        self, chunks: list[bytes], part_bytes: int
    ) -> None:
        whole = b"".join(chunks)
        pieces = [(crc32c(chunk), len(chunk)) for chunk in chunks]
        parts = [
            (combined_crc32c(pieces[c.plan.first_chunk : c.plan.last_chunk + 1]), c.size)
            for c in cut_all(part_bytes, [len(chunk) for chunk in chunks])
        ]
        assert combined_crc32c(parts) == combined_crc32c(pieces) == crc32c(whole)

    @given(st.binary(max_size=100), st.binary(max_size=100))
    def test_a_checksum_can_be_continued(self, first: bytes, second: bytes) -> None:
        continued = combined_crc32c([(crc32c(second), len(second))], crc32c(first))
        assert continued == crc32c(first + second)


class TestPartSize:
    @pytest.mark.parametrize(
        ("drive_bytes", "expected_size", "part_bytes"),
        [
            (0, 100, DEFAULT_PART_BYTES),
            (0, None, DEFAULT_PART_BYTES),
            (5 * MIB, 100, 5 * MIB),
            (1, 100, MIN_PART_BYTES),
            (5 * MIB, None, 6 * MIB),
            (32 * MIB, 100, 32 * MIB),
            (0, 8_000 * MIB, 8 * MIB),
            (0, 8_001 * MIB, 16 * MIB),
            (0, MAX_OBJECT_BYTES, 64 * MIB),
        ],
    )
    def test_the_part_size_follows_the_drive_and_the_expected_size(
        self, drive_bytes: int, expected_size: int | None, part_bytes: int
    ) -> None:
        assert choose_part_bytes(drive_bytes, expected_size) == part_bytes

    @given(drive_part_bytes, expected_sizes)
    def test_the_drive_gives_a_lower_bound(
        self, drive_bytes: int, expected_size: int | None
    ) -> None:
        chosen = choose_part_bytes(drive_bytes, expected_size)
        assert max(drive_bytes, MIN_PART_BYTES) <= chosen <= 128 * MIB
