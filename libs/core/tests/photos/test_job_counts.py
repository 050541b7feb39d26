"""Counts of photos and the status of their job."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.photos.counts import JOB_ENDS, JobStatus, PhotoCounts, job_status
from sluice_core.photos.states import TERMINAL, PhotoStatus

S, J = PhotoStatus, JobStatus
PHOTOS = st.lists(st.sampled_from(PhotoStatus), min_size=1, max_size=30)


@given(PHOTOS)
def test_counts_equal_the_states_of_the_photos(photos: Sequence[PhotoStatus]) -> None:
    counts = PhotoCounts.of(photos)
    assert {status: counts[status] for status in S} == {s: photos.count(s) for s in S}
    assert counts.total == len(photos)
    assert counts.ended == sum(status in TERMINAL for status in photos)


@given(PHOTOS)
def test_job_has_ended_exactly_when_all_photos_have(photos: Sequence[PhotoStatus]) -> None:
    ended = job_status(PhotoCounts.of(photos)) in JOB_ENDS
    assert ended is all(status in TERMINAL for status in photos)


@given(PHOTOS)
def test_job_status_names_what_became_of_the_photos(photos: Sequence[PhotoStatus]) -> None:
    kinds = set(photos)
    match job_status(PhotoCounts.of(photos)):
        case J.QUEUED:
            assert kinds == {S.QUEUED}
        case J.IN_PROGRESS:
            assert kinds != {S.QUEUED}
            assert not kinds <= TERMINAL
        case J.COMPLETED:
            assert S.COMPLETED in kinds
            assert S.FAILED not in kinds
        case J.COMPLETED_WITH_ERRORS:
            assert S.FAILED in kinds
            assert len(kinds) > 1
        case J.FAILED:
            assert kinds == {S.FAILED}
        case J.CANCELLED:
            assert kinds == {S.CANCELLED}


@pytest.mark.parametrize(
    ("photos", "status"),
    [
        ([S.QUEUED, S.QUEUED], J.QUEUED),
        ([S.QUEUED, S.UPLOADING], J.IN_PROGRESS),
        ([S.QUEUED, S.CANCELLED], J.IN_PROGRESS),
        ([S.COMPLETED, S.PROCESSING], J.IN_PROGRESS),
        ([S.COMPLETED, S.COMPLETED], J.COMPLETED),
        ([S.COMPLETED, S.CANCELLED], J.COMPLETED),
        ([S.COMPLETED, S.FAILED], J.COMPLETED_WITH_ERRORS),
        ([S.CANCELLED, S.FAILED], J.COMPLETED_WITH_ERRORS),
        ([S.FAILED, S.FAILED], J.FAILED),
        ([S.CANCELLED, S.CANCELLED], J.CANCELLED),
    ],
)
def test_job_status_of_some_photos(photos: Sequence[PhotoStatus], status: JobStatus) -> None:
    assert job_status(PhotoCounts.of(photos)) is status


@given(PHOTOS, st.data())
def test_moved_counts_are_those_of_the_moved_photos(
    photos: list[PhotoStatus], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(photos) - 1))
    target = data.draw(st.sampled_from(PhotoStatus))
    moved = PhotoCounts.of(photos).moved(photos[index], target)
    photos[index] = target
    assert moved == PhotoCounts.of(photos)


def test_counts_without_such_a_photo_are_not_moved() -> None:
    with pytest.raises(ValueError, match="no photo is UPLOADING"):
        PhotoCounts(queued=1).moved(S.UPLOADING, S.FAILED)


def test_a_job_without_photos_has_no_status() -> None:
    with pytest.raises(ValueError, match="at least one photo"):
        job_status(PhotoCounts())
