"""Page sizes and tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_common.rpc.paging import decode_page_token, encode_page_token, page_limit
from sluice_core.errors import InvalidArgument
from sluice_core.uploads.names import normalize_path

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@pytest.mark.parametrize(("asked", "given_"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_has_a_bounded_size(asked: int, given_: int) -> None:
    assert page_limit(asked) == given_


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="BAD_PAGE_SIZE"):
        page_limit(-1)


@given(after=texts, listing=st.lists(texts, max_size=3))
def test_token_survives_round_trip_in_its_listing(after: str, listing: list[str]) -> None:
    token = encode_page_token(after, *listing)
    assert token.isascii()
    assert decode_page_token(token, *listing) == after


@given(after=texts.filter(bool), listing=texts, other=texts)
def test_token_of_another_listing_is_refused(after: str, listing: str, other: str) -> None:
    if listing != other:
        with pytest.raises(InvalidArgument, match="BAD_PAGE_TOKEN"):
            decode_page_token(encode_page_token(after, listing), other)


@given(token=st.text(min_size=1, max_size=40))
def test_malformed_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="BAD_PAGE_TOKEN"):
        decode_page_token(token, "listing")


def test_a_token_with_an_impossible_place_is_refused() -> None:
    for after in ("../x", "/", "a//b", "x" * 2000, "\0"):
        token = encode_page_token(after, "nodes")
        with pytest.raises(InvalidArgument, match="BAD_PAGE_TOKEN"):
            decode_page_token(token, "nodes", check=normalize_path)
    assert decode_page_token(encode_page_token("a/b", "nodes"), "nodes", check=normalize_path)
