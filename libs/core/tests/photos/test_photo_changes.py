"""Changes of photos: guards, attempts, and the job that follows from them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sluice_core.errors import FailedPrecondition
from sluice_core.photos.changes import Outcome, PhotoChange, decide, enter, move, reopen
from sluice_core.photos.counts import JOB_ENDS, PhotoCounts
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.states import (
    NOT_ARRIVED,
    TAKES_PARTS,
    TERMINAL,
    TRANSITIONS,
    UNARRIVED,
    PhotoStatus,
    Reopening,
    is_terminal,
)
from sluice_core.photos.strategies import UploadStrategy
from sluice_core.uploads.model import ObjectRef

S = PhotoStatus
OWNER = Owner("acme", "ann")
STATUSES = st.sampled_from(PhotoStatus)


def photo_in(status: PhotoStatus, number: int = 0) -> Photo:
    return Photo(
        photo_id=f"ph_{number}",
        job_id="job_1",
        position=number,
        owner=OWNER,
        node_id=f"node-{number}",
        drive="photos",
        path=f"job_1/{number}.jpg",
        object=ObjectRef("b", f"acme/photos/node-{number}"),
        filename=f"{number}.jpg",
        content_type="image/jpeg",
        size=10,
        status=status,
        created_at=1.0,
        updated_at=1.0,
        attempt_started_at=1.0,
        asked_at=1.0,
    )


def job_of(photos: list[Photo]) -> UploadJob:
    return UploadJob(
        job_id="job_1",
        owner=OWNER,
        drive="photos",
        strategy=UploadStrategy.S3_PRESIGNED,
        counts=PhotoCounts.of(photo.status for photo in photos),
        total_bytes=sum(photo.size for photo in photos),
        created_at=1.0,
        updated_at=1.0,
    )


@given(STATUSES, STATUSES)
def test_a_repeated_change_is_without_effect(current: PhotoStatus, target: PhotoStatus) -> None:
    """The guard is (photo id, new status)."""
    photo = photo_in(current)
    change = PhotoChange(photo.photo_id, target)
    outcome, steps = decide(photo, change, is_processed=True)
    for status in steps:
        photo = enter(photo, status, change, 2.0)
    if outcome is Outcome.APPLIED:
        assert photo.status is target
        for is_processed in (True, False):
            assert decide(photo, change, is_processed=is_processed) == (Outcome.REPEATED, ())
    else:
        assert steps == ()


@given(STATUSES)
def test_an_ended_photo_takes_no_other_status(target: PhotoStatus) -> None:
    for status in TERMINAL - {target}:
        change = PhotoChange("ph_0", target)
        assert decide(photo_in(status), change, is_processed=True) == (Outcome.LATE, ())


@given(STATUSES, STATUSES)
def test_only_a_processed_photo_completes(current: PhotoStatus, target: PhotoStatus) -> None:
    photo, change = photo_in(current), PhotoChange("ph_0", target)
    outcome, steps = decide(photo, change, is_processed=False)
    assert S.COMPLETED not in steps
    completes = target is S.COMPLETED and not is_terminal(current)
    assert (outcome is Outcome.UNPROCESSED) is completes
    if not completes:
        assert (outcome, steps) == decide(photo, change, is_processed=True)


@given(STATUSES, STATUSES)
def test_news_of_a_former_attempt_is_late(current: PhotoStatus, target: PhotoStatus) -> None:
    photo = replace(photo_in(current), attempt=2)

    def decided(attempt: int | None) -> tuple[Outcome, tuple[PhotoStatus, ...]]:
        change = PhotoChange("ph_0", target, attempt=attempt)
        return decide(photo, change, is_processed=True)

    assert decided(1) == (Outcome.LATE, ())
    assert decided(2) == decided(None)


def test_each_step_has_a_version_of_its_own() -> None:
    photo = photo_in(S.QUEUED)
    change = PhotoChange("ph_0", S.COMPLETED, taken_at=0.5)
    seen = [photo]
    for status in decide(photo, change, is_processed=True)[1]:
        seen.append(enter(seen[-1], status, change, 2.0))
    assert [one.version for one in seen] == [1, 2, 3, 4]
    assert [one.completed_at for one in seen] == [None, None, None, 2.0]
    assert (seen[-1].taken_at, seen[-1].dated_at, seen[0].dated_at) == (0.5, 0.5, 1.0)


def test_only_a_failed_photo_carries_a_reason() -> None:
    change = PhotoChange("ph_0", S.FAILED, reason="TOO_LARGE", detail="too many pixels")
    failed = enter(photo_in(S.PROCESSING), S.FAILED, change, 2.0)
    assert (failed.reason, failed.detail) == ("TOO_LARGE", "too many pixels")
    again = reopen(failed, Reopening.REPROCESS, 3.0)
    assert (again.reason, again.detail, again.attempt) == ("", "", 2)


@pytest.mark.parametrize("how", list(Reopening))
def test_a_repeated_command_reopens_once(how: Reopening) -> None:
    failed = replace(photo_in(S.FAILED), multipart_id="m-1", reason=NOT_ARRIVED)
    once = reopen(failed, how, 2.0)
    assert (once.attempt, once.version, once.multipart_id) == (2, 2, "")
    assert reopen(once, how, 3.0) is once


@pytest.mark.parametrize("status", list(S))
@pytest.mark.parametrize("reason", [*sorted(UNARRIVED), "TOO_LARGE", "NODE_DELETED"])
def test_late_object_reopens_only_a_missed_photo(status: PhotoStatus, reason: str) -> None:
    photo = replace(photo_in(status), reason=reason if status is S.FAILED else "")
    again = reopen(photo, Reopening.ARRIVED, 2.0)
    if status is S.FAILED and reason in UNARRIVED:
        assert (again.status, again.attempt, again.reason) == (S.PROCESSING, 2, "")
    else:
        assert again is photo


@pytest.mark.parametrize(
    ("how", "started_at", "asked_at"),
    [
        (Reopening.RETRY, 2.0, 2.0),
        (Reopening.REPROCESS, 2.0, 1.0),
        (Reopening.ARRIVED, 1.0, 1.0),
    ],
)
def test_new_attempt_begins_with_its_command(
    how: Reopening, started_at: float, asked_at: float
) -> None:
    """A late object is of the attempt that it came in: its results are no former ones."""
    again = reopen(replace(photo_in(S.FAILED), reason=NOT_ARRIVED), how, 2.0)
    assert (again.attempt_started_at, again.asked_at) == (started_at, asked_at)


@pytest.mark.parametrize("status", [S.QUEUED, S.UPLOADING])
def test_new_url_outdates_the_end_of_waiting(status: PhotoStatus) -> None:
    photo = photo_in(status)
    end = PhotoChange("ph_0", S.FAILED, reason=NOT_ARRIVED, asked_before=5.0)
    assert decide(photo, end, is_processed=False)[0] is Outcome.APPLIED
    for asked_at in (5.0, 6.0):
        asked = replace(photo, asked_at=asked_at)
        assert decide(asked, end, is_processed=False) == (Outcome.LATE, ())


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        (Reopening.RETRY, S.PROCESSING, "PHOTO_NOT_FAILED"),
        (Reopening.REPROCESS, S.QUEUED, "PHOTO_NOT_FAILED"),
        (Reopening.REPROCESS, S.UPLOADING, "PHOTO_NOT_FAILED"),
        (Reopening.RETRY, S.COMPLETED, "PHOTO_ENDED"),
        (Reopening.RETRY, S.CANCELLED, "PHOTO_ENDED"),
        (Reopening.REPROCESS, S.COMPLETED, "PHOTO_ENDED"),
        (Reopening.REPROCESS, S.CANCELLED, "PHOTO_ENDED"),
    ],
)
def test_only_a_failed_photo_is_reopened(how: Reopening, status: PhotoStatus, reason: str) -> None:
    with pytest.raises(FailedPrecondition, match=reason):
        reopen(photo_in(status), how, 2.0)


class JobMachine(RuleBasedStateMachine):
    """Any changes and new attempts of the photos of one job, in any order."""

    @initialize(count=st.integers(1, 4))
    def create(self, count: int) -> None:
        self.photos = [photo_in(S.QUEUED, number) for number in range(count)]
        self.job = job_of(self.photos)
        self.walks: list[list[PhotoStatus]] = [[S.QUEUED] for _ in self.photos]
        self.ends = 0
        self.now = 1.0

    def _move(self, index: int, steps: list[Photo]) -> None:
        if not steps:
            return
        self.now += 1
        formers = [self.photos[index], *steps[:-1]]
        was_ended = self.job.status in JOB_ENDS
        changed = move(
            self.job,
            [(former.status, after) for former, after in zip(formers, steps, strict=True)],
            self.now,
        )
        assert changed.job.version == self.job.version + 1
        assert changed.has_ended is (not was_ended and changed.job.status in JOB_ENDS)
        self.ends += changed.has_ended
        self.job = changed.job
        self.photos[index] = steps[-1]
        self.walks[index] += [photo.status for photo in steps]

    @rule(
        number=st.integers(0, 3),
        status=STATUSES,
        attempt=st.none() | st.integers(1, 3),
        is_processed=st.booleans(),
    )
    def change(
        self, number: int, status: PhotoStatus, attempt: int | None, is_processed: bool
    ) -> None:
        index = number % len(self.photos)
        photo = self.photos[index]
        change = PhotoChange(photo.photo_id, status, attempt, reason="WHY")
        steps: list[Photo] = []
        for entered in decide(photo, change, is_processed=is_processed)[1]:
            assert entered is not S.COMPLETED or is_processed
            steps.append(enter(steps[-1] if steps else photo, entered, change, self.now))
        self._move(index, steps)

    @rule(number=st.integers(0, 3), how=st.sampled_from(Reopening))
    def open_again(self, number: int, how: Reopening) -> None:
        index = number % len(self.photos)
        photo = self.photos[index]
        try:
            again = reopen(photo, how, self.now)
        except FailedPrecondition:
            assert photo.status is not S.FAILED
            return
        if again is not photo:
            assert photo.status is S.FAILED
            self._move(index, [again])

    @invariant()
    def counts_are_those_of_the_photos(self) -> None:
        assert self.job.counts == PhotoCounts.of(photo.status for photo in self.photos)
        over = [photo for photo in self.photos if photo.status not in TAKES_PARTS]
        assert self.job.sent_bytes == sum(photo.size for photo in over)

    @invariant()
    def job_has_ended_exactly_when_its_photos_have(self) -> None:
        ended = all(is_terminal(photo.status) for photo in self.photos)
        assert (self.job.status in JOB_ENDS) is ended
        assert (self.job.finished_at is not None) is ended
        assert self.ends >= ended

    @invariant()
    def every_walk_follows_the_table(self) -> None:
        for photo, walk in zip(self.photos, self.walks, strict=True):
            assert photo.version == len(walk)
            again = [pair for pair in itertools.pairwise(walk) if pair[0] in TERMINAL]
            assert len(again) == photo.attempt - 1
            for former, status in itertools.pairwise(walk):
                if former in TERMINAL:
                    assert former is S.FAILED
                    assert status in (S.QUEUED, S.PROCESSING)
                else:
                    assert status in TRANSITIONS[former]

    @invariant()
    def reason_and_end_belong_to_their_states(self) -> None:
        for photo in self.photos:
            assert bool(photo.reason) is (photo.status is S.FAILED)
            assert (photo.completed_at is not None) is (photo.status is S.COMPLETED)


TestJobMachine = pytest.mark.no_cover(JobMachine.TestCase)
