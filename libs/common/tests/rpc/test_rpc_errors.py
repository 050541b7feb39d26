"""Errors keep all that a client decides by across the wire."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from sluice_common.rpc.errors import (
    client_is_gone,
    from_status,
    internal_error,
    status_code,
    to_sluice_error,
    to_status,
)
from sluice_core import errors
from sluice_core.errors import SluiceError

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and cls is not SluiceError]
CLASSES = [cls for cls in CLASSES if issubclass(cls, SluiceError)]

short_text = st.text(st.characters(codec="utf-8"), max_size=200)


@given(
    cls=st.sampled_from(CLASSES),
    reason=st.from_regex(r"[A-Z]{2,8}(_[A-Z]{2,8}){0,2}", fullmatch=True),
    message=short_text,
    field=st.none() | st.from_regex(r"[a-z_.]{1,20}", fullmatch=True),
    retry=st.none() | st.integers(0, 86_400_000).map(lambda n: n / 1000),
    metadata=st.dictionaries(
        st.from_regex(r"[a-z_]{1,20}", fullmatch=True), short_text, max_size=8
    ),
)
def test_an_error_survives_the_round_trip(
    cls: type[SluiceError],
    reason: str,
    message: str,
    field: str | None,
    retry: float | None,
    metadata: dict[str, str],
) -> None:
    sent = cls(reason, message, field=field, retry_after_seconds=retry, metadata=metadata)
    got = from_status(to_status(sent))
    assert type(got) is cls
    assert (got.reason, got.message, got.field) == (reason, message, field)
    assert got.retry_after_seconds == retry
    assert dict(got.metadata) == metadata


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_has_the_grpc_status_of_its_name(cls: type[SluiceError]) -> None:
    assert status_code(cls("X", "x")).name == cls.code


def test_huge_error_fits_into_trailers_of_clients() -> None:
    error = errors.NotFound(
        "X", "m" * 100_000, field="path", metadata={f"k{n}": "v" * 10_000 for n in range(1000)}
    )
    assert to_status(error).ByteSize() < 8 * 1024


def test_reason_of_another_domain_is_remote_error() -> None:
    status = to_status(errors.NotFound("UPLOAD_LOST", "gone"))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "sluice"
    info.domain = "somebody.else"
    status.details[0].Pack(info)
    assert from_status(status).reason == "REMOTE_ERROR"


def test_a_status_without_details_keeps_its_code() -> None:
    status = to_status(errors.Unavailable("X", "down"))
    del status.details[:]
    got = from_status(status)
    assert isinstance(got, errors.Unavailable)
    assert got.reason == "REMOTE_ERROR"


def test_a_group_of_refusals_counts_as_its_first() -> None:
    first, second = errors.NotFound("A", "a"), errors.Aborted("B", "b")
    assert to_sluice_error(ExceptionGroup("g", [ExceptionGroup("h", [first]), second])) is first


def test_a_defect_in_a_group_outweighs_the_refusals_beside_it() -> None:
    group = ExceptionGroup("g", [errors.NotFound("A", "a"), ZeroDivisionError()])
    assert to_sluice_error(group) is None


def test_running_out_of_time_is_a_deadline() -> None:
    error = to_sluice_error(TimeoutError())
    assert isinstance(error, errors.DeadlineExceeded)
    assert error.retryable


def test_defect_is_reported_without_internals() -> None:
    assert status_code(internal_error()) is grpc.StatusCode.INTERNAL
    assert internal_error().reason == "INTERNAL"


def test_failed_write_without_defect_means_client_is_gone() -> None:
    failed_write = grpc.aio.InternalError()
    assert client_is_gone(failed_write)
    assert client_is_gone(ExceptionGroup("g", [failed_write, errors.NotFound("A", "a")]))
    assert not client_is_gone(ExceptionGroup("g", [failed_write, ZeroDivisionError()]))
    assert not client_is_gone(errors.NotFound("A", "a"))
