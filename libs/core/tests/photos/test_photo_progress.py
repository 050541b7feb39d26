"""Progress of photos and jobs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.errors import InvalidArgument
from sluice_core.photos.progress import Progress, accept_tick, job_percent, shown_percent
from sluice_core.photos.states import TERMINAL, PhotoStatus

S = PhotoStatus
TOTALS = st.integers(1, 2**40)


@st.composite
def progress(draw: st.DrawFn) -> Progress:
    total = draw(TOTALS)
    return Progress(draw(st.integers(0, total)), total)


@pytest.mark.parametrize(("sent", "total"), [(-1, 10), (11, 10), (0, 0), (0, -1)])
def test_impossible_progress_does_not_exist(sent: int, total: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        Progress(sent, total)


@given(progress())
def test_percent_is_100_only_for_every_byte(made: Progress) -> None:
    assert 0 <= made.percent <= 100
    assert (made.percent == 100) is (made.bytes_sent == made.bytes_total)


@given(progress(), st.data())
def test_progress_never_goes_back(known: Progress, data: st.DataObject) -> None:
    sent = data.draw(st.integers(0, known.bytes_total))
    after = accept_tick(known, sent, known.bytes_total)
    assert after.bytes_sent == max(known.bytes_sent, sent)
    assert (after is known) is (sent <= known.bytes_sent)


@given(progress(), st.integers(-(2**40), 2**41), TOTALS)
def test_a_tick_out_of_bounds_is_refused(known: Progress, sent: int, total: int) -> None:
    if total == known.bytes_total and 0 <= sent <= total:
        accept_tick(known, sent, total)
    else:
        with pytest.raises(InvalidArgument, match="BAD_PROGRESS"):
            accept_tick(known, sent, total)


@given(st.sampled_from(PhotoStatus), progress())
def test_a_photo_shows_100_exactly_when_its_object_is_there(
    status: PhotoStatus, made: Progress
) -> None:
    shown = shown_percent(status, made)
    assert (shown == 100) is (status in (S.PROCESSING, S.COMPLETED))
    assert 0 <= shown <= 100


@given(progress())
def test_an_uploading_photo_shows_what_was_sent(made: Progress) -> None:
    assert shown_percent(S.UPLOADING, made) == min(99, made.percent)
    assert shown_percent(S.QUEUED, made) == 0


@given(st.lists(st.tuples(st.sampled_from(PhotoStatus), progress()), max_size=20))
def test_a_job_shows_100_exactly_when_it_has_ended(
    photos: list[tuple[PhotoStatus, Progress]],
) -> None:
    percent = job_percent(photos)
    assert 0 <= percent <= 100
    assert (percent == 100) is all(status in TERMINAL for status, _ in photos)


def test_a_job_is_weighed_by_bytes() -> None:
    photos = [(S.COMPLETED, Progress(0, 10)), (S.UPLOADING, Progress(15, 30))]
    assert job_percent(photos) == 62
