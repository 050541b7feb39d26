"""Conversion between `SluiceError` and `google.rpc.Status`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sluice_core import errors
from sluice_core.errors import SluiceError

DOMAIN: Final = "sluice"

NOT_OURS: Final = "REMOTE_ERROR"
"""Reason of a status that no Sluice service sent: from gRPC itself or a proxy."""

_MAX_MESSAGE_CHARS: Final = 1024
_MAX_METADATA_ENTRIES: Final = 16
_MAX_VALUE_CHARS: Final = 256
"""These limits keep the trailers below 8 KiB, above which gRPC clients refuse metadata and report
another error."""

_CLASSES: Final[dict[str, type[SluiceError]]] = {
    cls.code: cls
    for cls in (
        errors.InvalidArgument,
        errors.OutOfRange,
        errors.FailedPrecondition,
        errors.AlreadyExists,
        errors.NotFound,
        errors.Aborted,
        errors.DataLoss,
        errors.ResourceExhausted,
        errors.DeadlineExceeded,
        errors.Unavailable,
        errors.Unauthenticated,
        errors.PermissionDenied,
        errors.Unimplemented,
        errors.Internal,
    )
}


def status_code(error: SluiceError) -> grpc.StatusCode:
    """Return the gRPC status code of an error."""
    return grpc.StatusCode[error.code]


def to_status(error: SluiceError, request_id: str = "") -> status_pb2.Status:
    """Return the wire form of an error; long text is cut, so that it can always be delivered.

    The status has an `ErrorInfo` (domain "sluice", stable reason, metadata), a `BadRequest` if a
    field is at fault and a `RetryInfo` if a retry may succeed. `log_detail` is not sent; the
    request id identifies its log line.
    """
    number: int = status_code(error).value[0]
    status = status_pb2.Status(code=number, message=error.message[:_MAX_MESSAGE_CHARS])
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in list(error.metadata.items())[:_MAX_METADATA_ENTRIES]:
        info.metadata[key[:_MAX_VALUE_CHARS]] = value[:_MAX_VALUE_CHARS]
    status.details.add().Pack(info)
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message[:_MAX_MESSAGE_CHARS], reason=error.reason
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(round(max(error.retry_after_seconds, 0.0) * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if request_id:
        status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
    for attachment in error.attachments:
        status.details.add().Pack(attachment)
    return status


def from_status(status: status_pb2.Status) -> SluiceError:
    """Return the error of a status; its reason is REMOTE_ERROR if Sluice did not send it."""
    reason, metadata = NOT_OURS, dict[str, str]()
    field: str | None = None
    retry_after_seconds: float | None = None
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9
    cls = _CLASSES.get(_CODE_NAMES.get(status.code, ""), errors.Internal)
    return cls(
        reason,
        status.message,
        field=field,
        retry_after_seconds=retry_after_seconds,
        metadata=metadata,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> SluiceError:
    """Return the error that another Sluice service raised."""
    status = rpc_status.from_call(cast("grpc.Call", error))
    if status is not None:
        return from_status(status)
    cls = _CLASSES.get(error.code().name, errors.Internal)
    return cls(NOT_OURS, error.details() or "The service gave no details; check its log.")


def to_sluice_error(error: BaseException) -> SluiceError | None:
    """Return the error to report to the caller; None for a defect, which is only logged.

    A TaskGroup raises a group: a defect in it takes precedence, else the first error counts.
    """
    reported: SluiceError | None = None
    for leaf in _leaves(error):
        if isinstance(leaf, SluiceError):
            reported = reported or leaf
        elif isinstance(leaf, TimeoutError):
            reported = reported or errors.DeadlineExceeded(
                "DEADLINE_EXCEEDED", "The call did not finish in time; retry it."
            )
        else:
            return None
    return reported


def client_is_gone(error: BaseException) -> bool:
    """Return whether a handler failed only because it wrote to a call that had ended.

    This is no defect: grpc.aio fails such a write before it cancels the handler.
    """
    return all(
        isinstance(leaf, (grpc.aio.InternalError, SluiceError)) for leaf in _leaves(error)
    ) and any(isinstance(leaf, grpc.aio.InternalError) for leaf in _leaves(error))


def internal_error() -> SluiceError:
    """Return the error for a defect; it reveals no internals."""
    return errors.Internal(
        "INTERNAL",
        "The server failed because of a defect; its log has the details under the x-request-id.",
    )


_CODE_NAMES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
