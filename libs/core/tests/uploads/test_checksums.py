"""CRC32C of blocks and of concatenations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sluice_core.uploads.checksums import EMPTY_CRC32C, combined_crc32c, crc32c


def reference(data: bytes) -> int:
    """Compute CRC32C bit by bit, as RFC 3720 (appendix B.4) defines it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_check_value_of_the_castagnoli_polynomial() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_rfc_3720_examples() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_no_bytes_have_the_empty_checksum() -> None:
    assert crc32c(b"") == EMPTY_CRC32C == combined_crc32c([])


@given(st.binary(max_size=300))
def test_checksum_equals_the_reference(data: bytes) -> None:
    assert crc32c(data) == crc32c(memoryview(data)) == reference(data)


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_combined_pieces_equal_the_whole(pieces: list[bytes]) -> None:
    whole = crc32c(b"".join(pieces))
    assert combined_crc32c((crc32c(piece), len(piece)) for piece in pieces) == whole


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_continued_checksum_equals_the_whole(pieces: list[bytes]) -> None:
    crc = EMPTY_CRC32C
    for piece in pieces:
        crc = crc32c(piece, crc)
    assert crc == crc32c(b"".join(pieces))


@given(st.lists(st.lists(st.binary(max_size=50), max_size=5), max_size=5))
def test_staged_combination_equals_the_whole(parts: list[list[bytes]]) -> None:
    # Blocks make chunks, chunks make parts, parts make the object.
    staged = combined_crc32c(
        (combined_crc32c((crc32c(piece), len(piece)) for piece in part), len(b"".join(part)))
        for part in parts
    )
    assert staged == crc32c(b"".join(piece for part in parts for piece in part))


@given(st.binary(min_size=1, max_size=100), st.data())
def test_one_flipped_bit_changes_the_checksum(data: bytes, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, len(data) * 8 - 1))
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << (bit % 8)
    assert crc32c(bytes(damaged)) != crc32c(data)
