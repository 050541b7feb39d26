"""Transition table of photos and the ways through it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.photos.states import (
    REOPENED,
    TAKES_PARTS,
    TERMINAL,
    TRANSITIONS,
    PhotoStatus,
    Reopening,
    is_terminal,
    photo_ended,
    steps_to,
)

S = PhotoStatus
STATUSES = st.sampled_from(PhotoStatus)


def test_terminal_states_are_those_of_the_contract() -> None:
    assert {S.COMPLETED, S.FAILED, S.CANCELLED} == TERMINAL
    assert not any(TRANSITIONS[status] for status in TERMINAL)


def test_successful_photo_passes_every_state() -> None:
    for current, target in itertools.pairwise([S.QUEUED, S.UPLOADING, S.PROCESSING, S.COMPLETED]):
        assert target in TRANSITIONS[current]


@pytest.mark.parametrize("status", list(S))
def test_every_open_photo_can_fail_and_be_cancelled(status: PhotoStatus) -> None:
    for end in (S.FAILED, S.CANCELLED):
        assert (end in TRANSITIONS[status]) is not is_terminal(status)


@given(STATUSES, STATUSES)
def test_steps_are_transitions_of_the_table(current: PhotoStatus, target: PhotoStatus) -> None:
    steps = steps_to(current, target)
    for former, status in itertools.pairwise([current, *steps]):
        assert status in TRANSITIONS[former]
    assert not steps or steps[-1] is target


@given(STATUSES, STATUSES)
def test_steps_lead_wherever_the_table_does(current: PhotoStatus, target: PhotoStatus) -> None:
    reachable = {current}
    for _ in S:
        reachable |= {after for status in reachable for after in TRANSITIONS[status]}
    assert bool(steps_to(current, target)) is (target is not current and target in reachable)


@given(STATUSES, STATUSES)
def test_steps_are_the_shortest_way(current: PhotoStatus, target: PhotoStatus) -> None:
    """A failed upload does not pass through PROCESSING."""
    if target in (S.FAILED, S.CANCELLED):
        assert len(steps_to(current, target)) <= 1


def test_processed_news_before_any_other_completes_a_photo() -> None:
    assert steps_to(S.QUEUED, S.COMPLETED) == (S.UPLOADING, S.PROCESSING, S.COMPLETED)


@given(STATUSES)
def test_no_step_leaves_a_terminal_state(target: PhotoStatus) -> None:
    for status in TERMINAL:
        assert steps_to(status, target) == ()


def test_an_upload_is_open_until_its_object_is_there() -> None:
    """These are the states from which the table leads to PROCESSING."""
    assert {s for s in S if S.PROCESSING in steps_to(s, S.PROCESSING)} == TAKES_PARTS


def test_a_new_attempt_begins_in_an_open_state() -> None:
    assert {how: REOPENED[how] for how in Reopening} == {
        Reopening.RETRY: S.QUEUED,
        Reopening.REPROCESS: S.PROCESSING,
        Reopening.ARRIVED: S.PROCESSING,
    }
    assert not TERMINAL & set(REOPENED.values())


def test_error_of_an_ended_photo_names_its_status() -> None:
    error = photo_ended(S.CANCELLED)
    assert (error.reason, error.metadata) == ("PHOTO_ENDED", {"status": "CANCELLED"})
    assert "cannot change any more" in error.message


def test_error_of_a_failed_photo_says_that_it_can_be_retried() -> None:
    message = photo_ended(S.FAILED).message
    assert "retry it" in message
    assert "cannot change" not in message
