"""Validation of names: valid ones are safe everywhere, errors name the field."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.errors import InvalidArgument
from sluice_core.uploads import names
from sluice_core.uploads.ids import new_node_id, new_upload_id
from sluice_core.uploads.model import MAX_CHUNKS

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text("./a\u0301é\n\0", max_size=12)


def accepted(check: Callable[[str], str], value: str) -> str | None:
    try:
        return check(value)
    except InvalidArgument:
        return None


def is_log_safe(text: str) -> bool:
    return len(text.splitlines()) <= 1 and not any(
        unicodedata.category(character) in ("Cc", "Cs") for character in text
    )


@given(ANY_TEXT)
def test_a_normalized_path_is_unchanged_by_normalizing_it_again(text: str) -> None:
    path = accepted(names.normalize_path, text)
    if path is not None:
        assert names.normalize_path(path) == path
        assert unicodedata.is_normalized("NFC", path)


@given(ANY_TEXT)
def test_an_accepted_path_is_relative_resolved_and_safe_to_log(text: str) -> None:
    path = accepted(names.normalize_path, text)
    if path is not None:
        segments = path.split("/")
        assert not {"", ".", ".."} & set(segments)
        assert 0 < len(path.encode()) <= 1024
        assert is_log_safe(path)


@pytest.mark.rule(14)
@given(ANY_TEXT)
@pytest.mark.parametrize(
    "check",
    [names.check_drive_name, names.check_upload_id, names.check_node_id],
)
def test_an_accepted_name_is_one_plain_key_segment(check: Callable[[str], str], text: str) -> None:
    name = accepted(check, text)
    if name is not None:
        assert name == text
        assert name.isascii()
        assert name not in (".", "..")
        assert not set(name) & set("/\\:{}\r\n\0 ")
        assert 0 < len(name) <= 128


@given(st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=70))
def test_accepted_metadata_is_small_and_safe_to_log(metadata: dict[str, str]) -> None:
    try:
        kept = names.check_metadata(metadata)
    except InvalidArgument:
        return
    assert kept == metadata
    assert len(kept) <= 64
    assert sum(len(k.encode()) + len(v.encode()) for k, v in kept.items()) <= 8192
    assert all(key and is_log_safe(key) and is_log_safe(value) for key, value in kept.items())


@given(ANY_TEXT | st.from_regex(r"[a-z]+/[a-z+.]+(; charset=[a-z0-9-]+)?", fullmatch=True))
def test_an_accepted_content_type_is_safe_as_a_header(text: str) -> None:
    content_type = accepted(names.check_content_type, text)
    if content_type is not None:
        assert content_type.isascii()
        assert is_log_safe(content_type)


@pytest.mark.rule(19)
def test_paths_are_composed_so_that_one_name_has_one_spelling() -> None:
    assert names.normalize_path("Cafe\u0301/menu.txt") == "Caf\u00e9/menu.txt"


@pytest.mark.parametrize(
    "path", ["a", "a/b.txt", "…/x", "a b", "..a", "a..", "x" * 1024, "é" * 512]
)
def test_ordinary_paths_are_accepted(path: str) -> None:
    assert names.normalize_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "/",
        ".",
        "..",
        "a/./b",
        "a/../b",
        "../etc",
        "a\0b",
        "a\nb",
        "a\x7fb",
        "a\x85b",
        "a\u2028b",
        "a\ud800b",
        "x" * 1025,
        "é" * 513,
        "e\u0301" * 1_000_000,
    ],
)
def test_bad_path_is_rejected_with_its_field(path: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        names.normalize_path(path)
    assert refusal.value.reason == "BAD_PATH"
    assert refusal.value.field == "path"


@pytest.mark.parametrize("prefix", ["", "a", "a/", "photos/2024/IMG_", "."])
def test_a_prefix_may_end_anywhere(prefix: str) -> None:
    assert names.check_path_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["a\0", "a\n", "\ud800", "x" * 1025])
def test_prefix_has_the_character_and_length_rules_of_paths(prefix: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        names.check_path_prefix(prefix)
    assert refusal.value.field == "path_prefix"


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "a/b", "a:b", "a{b}", "a\n", "ä", "x" * 64])
def test_bad_drive_name_is_rejected(name: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        names.check_drive_name(name)
    assert (refusal.value.reason, refusal.value.field) == ("BAD_DRIVE_NAME", "drive")


@pytest.mark.parametrize("value", ["", "a:b", "a{b}", "a\n", "a b", "a/b", "a.b", "\0", "x" * 129])
def test_malformed_id_is_rejected(value: str) -> None:
    with pytest.raises(InvalidArgument) as upload:
        names.check_upload_id(value)
    with pytest.raises(InvalidArgument) as node:
        names.check_node_id(value, "node")
    assert (upload.value.reason, upload.value.field) == ("BAD_UPLOAD_ID", "upload_id")
    assert (node.value.reason, node.value.field) == ("BAD_NODE_ID", "node")


def test_ids_of_the_server_are_accepted() -> None:
    upload_id = new_upload_id("0123abcd", "tenant", "")
    node_id = new_node_id()
    assert names.check_upload_id(upload_id) == upload_id
    assert names.check_node_id(node_id) == node_id


@pytest.mark.parametrize("request_id", ["a\n", "\0", "é", "x" * 129])
def test_bad_request_id_is_rejected(request_id: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        names.check_request_id(request_id)
    assert refusal.value.reason == "BAD_REQUEST_ID"


def test_a_request_id_may_be_left_out() -> None:
    assert names.check_request_id("") == ""


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({str(n): "" for n in range(65)}, "TOO_MANY_METADATA_ENTRIES"),
        ({"k": "x" * 8192}, "METADATA_TOO_LARGE"),
        ({"k": "é" * 4096}, "METADATA_TOO_LARGE"),
        ({"": "v"}, "BAD_METADATA"),
        ({"k\n": "v"}, "BAD_METADATA"),
        ({"k": "\ud800"}, "BAD_METADATA"),
    ],
)
def test_bad_metadata_is_rejected(metadata: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        names.check_metadata(metadata)
    assert (refusal.value.reason, refusal.value.field) == (reason, "metadata")


def test_metadata_at_its_bounds_is_accepted() -> None:
    assert len(names.check_metadata({f"{n:02}": "" for n in range(64)})) == 64
    assert names.check_metadata({"k": "x" * 8191}) == {"k": "x" * 8191}


@pytest.mark.parametrize("value", ["", "image/jpeg", 'text/plain; charset="utf-8"', "a/b;c=d;e=f"])
def test_ordinary_content_types_are_accepted(value: str) -> None:
    assert names.check_content_type(value) == value


@pytest.mark.parametrize("value", ["image", "a/b\r\nX: y", "a/b; c", "a/" + "b" * 254, "é/b"])
def test_bad_content_type_is_rejected(value: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        names.check_content_type(value)
    assert refusal.value.reason == "BAD_CONTENT_TYPE"


@given(st.integers(0, MAX_CHUNKS - 1))
def test_valid_chunk_numbers_are_accepted(number: int) -> None:
    assert names.check_chunk_number(number) == number


@pytest.mark.rule(3)
@given(st.integers(max_value=-1) | st.integers(min_value=MAX_CHUNKS))
def test_invalid_chunk_numbers_are_rejected(number: int) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        names.check_chunk_number(number)
    assert (refusal.value.reason, refusal.value.field) == ("BAD_CHUNK_NUMBER", "number")


@given(st.binary(max_size=64))
def test_a_sha256_is_32_raw_bytes(value: bytes) -> None:
    if len(value) == 32:
        assert names.check_sha256(value) == value
    else:
        with pytest.raises(InvalidArgument) as refusal:
            names.check_sha256(value)
        assert (refusal.value.reason, refusal.value.field) == ("BAD_SHA256", "sha256")


@given(ANY_TEXT)
def test_accepted_tenants_and_subjects_are_safe(text: str) -> None:
    """Both come from tokens: a tenant becomes part of keys, both are logged."""
    tenant = accepted(names.check_tenant_name, text)
    if tenant is not None:
        assert tenant == text
        assert accepted(names.check_drive_name, text) == text
    subject = accepted(names.check_subject, text)
    if subject is not None:
        assert subject == text
        assert 0 < len(subject) <= 255
        assert is_log_safe(subject)


@pytest.mark.parametrize("tenant", ["acme", "7e57d004-2b97-0e7a-b45f-5387367791cd", "a.b_C-9"])
def test_common_tenants_are_accepted(tenant: str) -> None:
    assert names.check_tenant_name(tenant) == tenant


@pytest.mark.parametrize("subject", ["auth0|5f7c8ec7", "ann@example.com", "CN=Ann,O=Acme", "Änne"])
def test_common_subjects_are_accepted(subject: str) -> None:
    assert names.check_subject(subject) == subject
