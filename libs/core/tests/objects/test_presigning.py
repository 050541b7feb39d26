"""Rules of keys and of presigned URLs that hold in every store."""

from __future__ import annotations

import pytest

from sluice_core.errors import InvalidArgument
from sluice_core.objects.keys import check_key
from sluice_core.objects.presigning import attachment, check_signed_attributes


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "a/../b", "./a", "..", "ü" * 513, "a\ud800"]
)
def test_ambiguous_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidArgument, match="BAD_KEY"):
        check_key(key)


@pytest.mark.parametrize("key", ["a", "a/b.c/..d", "...", "ü" * 512, "a b+c~%2F?", "\0"])
def test_unambiguous_key_is_accepted(key: str) -> None:
    check_key(key)


@pytest.mark.parametrize(
    ("name", "value"),
    [("a", "b\r\nc: d"), ("a", "ü"), ("a", "\t"), ("a\n", "b"), ("A", "b"), ("", "b"), ("a b", "")],
)
def test_metadata_that_is_no_header_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match="BAD_METADATA"):
        check_signed_attributes("image/jpeg", {name: value})


def test_metadata_in_printable_ascii_is_accepted() -> None:
    check_signed_attributes("", {"sluice-path": "Zm9v_-", "empty": "", "all": ' ~!"#'})


def test_download_name_has_no_way_out_of_its_header() -> None:
    assert attachment('a"; b\r\n/ü') == "attachment; filename*=UTF-8''a%22%3B%20b%0D%0A%2F%C3%BC"
