"""Exception hierarchy of the server; `SluiceError` is the root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from google.protobuf.message import Message

_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class SluiceError(Exception):
    """Root of every error that callers see.

    `code` is the name of the gRPC status. Only the RPC edge (`rpc/errors.py` and the gateway's
    HTTP equivalent) converts these errors to wire errors.

    Args:
        reason: stable word in UPPER_SNAKE that clients match on, part of the public contract.
        message: one sentence for callers: what is wrong, then what to do. No secrets and no
            infrastructure details: no host, path, bucket, user or vendor text.
        field: the request field at fault, if any.
        retry_after_seconds: delay before the same call is worth a retry.
        metadata: facts for programs, e.g. {"needed_number": "7"}.
        log_detail: additional detail for operators. It appears in logs and in the start-up
            output of commands, never in a response.
        attachments: messages added to the details of the wire status.
    """

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        field: str | None = None,
        retry_after_seconds: float | None = None,
        metadata: Mapping[str, str] = _NO_METADATA,
        log_detail: str = "",
        attachments: Sequence[Message] = (),
    ) -> None:
        super().__init__(
            f"{reason}: {message} [{log_detail}]" if log_detail else f"{reason}: {message}"
        )
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.metadata = metadata
        self.log_detail = log_detail
        self.attachments = attachments

    @property
    def operator_message(self) -> str:
        """Message and detail, for operators."""
        return f"{self.message} ({self.log_detail})" if self.log_detail else self.message


class InvalidArgument(SluiceError):
    """The request is invalid and never succeeds unchanged."""

    code = "INVALID_ARGUMENT"


class OutOfRange(SluiceError):
    """The request carries bytes beyond the declared size."""

    code = "OUT_OF_RANGE"


class FailedPrecondition(SluiceError):
    """The current state does not allow the call; another call has to come first."""

    code = "FAILED_PRECONDITION"


class AlreadyExists(SluiceError):
    """The target holds other content already."""

    code = "ALREADY_EXISTS"


class NotFound(SluiceError):
    """The target is unknown or belongs to another tenant."""

    code = "NOT_FOUND"


class Aborted(SluiceError):
    """The call lost a race; a retry may succeed."""

    code = "ABORTED"
    retryable = True


class DataLoss(SluiceError):
    """Bytes do not match their checksum."""

    code = "DATA_LOSS"


class ResourceExhausted(SluiceError):
    """No capacity; retry after `retry_after_seconds`."""

    code = "RESOURCE_EXHAUSTED"
    retryable = True


class DeadlineExceeded(SluiceError):
    """The call did not finish in time."""

    code = "DEADLINE_EXCEEDED"
    retryable = True


class Unavailable(SluiceError):
    """A backend does not answer; a retry may succeed."""

    code = "UNAVAILABLE"
    retryable = True


class Unauthenticated(SluiceError):
    """The caller has no valid credentials."""

    code = "UNAUTHENTICATED"


class PermissionDenied(SluiceError):
    """The caller lacks the permission."""

    code = "PERMISSION_DENIED"


class Unimplemented(SluiceError):
    """This deployment does not support the call."""

    code = "UNIMPLEMENTED"


class Internal(SluiceError):
    """A defect in the server."""

    code = "INTERNAL"
