"""Ids: unguessable ones, and derived ones that retries repeat."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.uploads.chunk_checks import is_name
from sluice_core.uploads.ids import (
    event_id,
    new_node_id,
    new_token,
    new_upload_id,
    nonce_of,
)

texts = st.text(max_size=30)
request_ids = st.text(min_size=1, max_size=30)


def test_node_ids_are_uuids_of_version_7_and_differ() -> None:
    ids = {new_node_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {uuid.UUID(node_id).version for node_id in ids} == {7}


def test_node_ids_sort_by_the_time_they_were_made() -> None:
    ids = [new_node_id() for _ in range(1000)]
    assert ids == sorted(ids)


def test_tokens_differ_and_are_safe_as_names() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(is_name(token) for token in tokens)


def test_upload_ids_without_a_request_id_differ() -> None:
    ids = {new_upload_id("nonce", "tenant", "") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_name(upload_id) for upload_id in ids)


@given(tenant=texts, request_id=request_ids)
def test_repeated_request_yields_the_same_upload_id(tenant: str, request_id: str) -> None:
    first = new_upload_id("nonce", tenant, request_id)
    assert first == new_upload_id("nonce", tenant, request_id)
    assert is_name(first)


@given(tenant=texts, other=texts, request_id=request_ids)
def test_request_of_another_tenant_yields_another_upload_id(
    tenant: str, other: str, request_id: str
) -> None:
    same = new_upload_id("n", tenant, request_id) == new_upload_id("n", other, request_id)
    assert same == (tenant == other)


@pytest.mark.rule(28)
def test_upload_id_carries_the_nonce_of_its_ledger() -> None:
    for request_id in ("", "request-1"):
        assert nonce_of(new_upload_id("4f2a", "tenant", request_id)) == "4f2a"
    derived = {new_upload_id(nonce, "tenant", "request-1") for nonce in ("a", "b")}
    assert len(derived) == 2


@pytest.mark.rule(23)
@given(texts, texts, st.integers(0, 10**9), st.integers(0, 10**9))
def test_event_ids_are_stable_and_one_per_sequence(
    subject: str, event_type: str, first: int, second: int
) -> None:
    same = event_id(subject, event_type, first) == event_id(subject, event_type, second)
    assert same == (first == second)
    assert uuid.UUID(event_id(subject, event_type, first)).version == 5
