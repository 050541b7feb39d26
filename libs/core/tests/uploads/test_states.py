"""Transition table of uploads."""

from __future__ import annotations

import itertools

import pytest

from sluice_core.errors import FailedPrecondition, Internal, SluiceError
from sluice_core.uploads.model import UploadStatus
from sluice_core.uploads.states import (
    TAKES_CHUNKS,
    TERMINAL,
    TRANSITIONS,
    check_transition,
    is_terminal,
)

S = UploadStatus


def test_successful_upload_passes_every_state() -> None:
    for current, target in itertools.pairwise([S.PENDING, S.UPLOADING, S.COMPLETING, S.COMPLETED]):
        check_transition(current, target)


def test_an_empty_object_goes_from_pending_to_completing() -> None:
    check_transition(S.PENDING, S.COMPLETING)


@pytest.mark.rule(8)
def test_rule_8_completing_goes_back_to_uploading() -> None:
    check_transition(S.COMPLETING, S.UPLOADING)


def test_terminal_states_are_final() -> None:
    assert {S.COMPLETED, S.FAILED, S.ABORTED, S.EXPIRED} == TERMINAL
    for current, target in itertools.product(TERMINAL, S):
        with pytest.raises(FailedPrecondition) as refused:
            check_transition(current, target)
        assert refused.value.reason == "UPLOAD_ENDED"


@pytest.mark.rule(18)
@pytest.mark.parametrize("target", [S.ABORTED, S.EXPIRED])
def test_rule_18_completing_is_neither_aborted_nor_expired(target: UploadStatus) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        check_transition(S.COMPLETING, target)
    assert refused.value.reason == "UPLOAD_COMPLETING"


@pytest.mark.parametrize("status", list(S))
def test_every_open_state_can_fail(status: UploadStatus) -> None:
    assert (S.FAILED in TRANSITIONS[status]) is not is_terminal(status)


def test_impossible_transition_is_an_internal_error() -> None:
    with pytest.raises(Internal) as defect:
        check_transition(S.PENDING, S.COMPLETED)
    assert defect.value.reason == "ILLEGAL_TRANSITION"


def test_every_pair_is_either_allowed_or_a_typed_error() -> None:
    for current, target in itertools.product(S, S):
        try:
            check_transition(current, target)
        except SluiceError:
            assert target not in TRANSITIONS[current]
        else:
            assert target in TRANSITIONS[current]


def test_only_states_that_accept_chunks_may_expire() -> None:
    assert {s for s in S if S.EXPIRED in TRANSITIONS[s]} == TAKES_CHUNKS
