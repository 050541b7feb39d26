"""`SluiceError` ↔ `google.rpc.Status`: the one table between our errors and the wire.

Every refusal carries an `ErrorInfo` (domain "sluice", the stable reason, facts for programs), a
`BadRequest` when one field is at fault and a `RetryInfo` when the same call is worth repeating.
"""

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
"""The reason of a status that no Sluice service made: gRPC's own, or a proxy's."""

_MAX_MESSAGE_CHARS: Final = 1024
_MAX_METADATA_ENTRIES: Final = 16
_MAX_VALUE_CHARS: Final = 256
"""Together they keep the trailers well below the 8 KiB at which gRPC clients begin to refuse
metadata: an error that cannot be delivered would arrive as another error."""

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
    """The gRPC status of an error."""
    return grpc.StatusCode[error.code]


def to_status(error: SluiceError, request_id: str = "") -> status_pb2.Status:
    """The wire form of an error; over-long text is cut so that it can always be delivered.

    `log_detail` stays behind; the request id is how its log line is found.
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
    """The error that a status stands for; reason REMOTE_ERROR when the sender was not Sluice."""
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
    """What another Sluice service answered us, as the error it raised there."""
    status = rpc_status.from_call(cast("grpc.Call", error))
    if status is not None:
        return from_status(status)
    cls = _CLASSES.get(error.code().name, errors.Internal)
    return cls(NOT_OURS, error.details() or "The service gave no reason.")


def to_sluice_error(error: BaseException) -> SluiceError | None:
    """The error that a caller may be told; None for a defect of ours, which stays in the log.

    A handler that works in a TaskGroup raises a group: one defect in it outweighs everything
    else, otherwise the first refusal counts.
    """
    told: SluiceError | None = None
    for leaf in _leaves(error):
        if isinstance(leaf, SluiceError):
            told = told or leaf
        elif isinstance(leaf, TimeoutError):
            told = told or errors.DeadlineExceeded(
                "DEADLINE_EXCEEDED", "The call was not done in time; repeat it."
            )
        else:
            return None
    return told


def client_is_gone(error: BaseException) -> bool:
    """Whether a handler failed only because it wrote to a call that had ended meanwhile.

    That is no defect: grpc.aio fails such a write before it cancels the handler.
    """
    return all(
        isinstance(leaf, (grpc.aio.InternalError, SluiceError)) for leaf in _leaves(error)
    ) and any(isinstance(leaf, grpc.aio.InternalError) for leaf in _leaves(error))


def internal_error() -> SluiceError:
    """What a caller is told about a defect of ours: nothing of its inside."""
    return errors.Internal(
        "INTERNAL", "The server made a mistake; its log has the details under the x-request-id."
    )


_CODE_NAMES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
