"""The one exception tree of the server.

    SluiceError
    ├── InvalidArgument      the request can never work as it is
    ├── OutOfRange           bytes beyond the declared size
    ├── FailedPrecondition   not in this state; another call has to come first
    ├── AlreadyExists        the place is taken by other content
    ├── NotFound             unknown, or another tenant's
    ├── Aborted              a lost race; the same call may win
    ├── DataLoss             bytes do not match their checksum
    ├── ResourceExhausted    full; come back after `retry_after_seconds`
    ├── DeadlineExceeded     not done in time
    ├── Unavailable          a backend does not answer; the same call may work later
    ├── Unauthenticated      who asks is unknown
    ├── PermissionDenied     who asks may not
    ├── Unimplemented        this deployment cannot
    └── Internal             a defect of ours

`code` is the name of the gRPC status, `reason` the stable UPPER_SNAKE word that clients match on.
Only the RPC edge (`rpc/errors.py`, the gateway's HTTP twin) turns these into wire errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from google.protobuf.message import Message

_NOTHING: Mapping[str, str] = MappingProxyType({})


class SluiceError(Exception):
    """Root of every error that a caller is meant to see.

    Args:
        reason: stable word in UPPER_SNAKE, part of the public contract.
        message: one sentence for callers: what is wrong and what to do next. No secrets, and
            nothing of the infrastructure: no host, path, bucket, user or vendor's text.
        field: the request field at fault, if one is.
        retry_after_seconds: when the same call is worth repeating.
        metadata: facts for programs, e.g. {"needed_number": "7"}.
        log_detail: what operators need besides the message; it stays in logs and in what a
            command says at its start, and never reaches a caller.
        attachments: messages that travel in the details of the wire's status.
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
        metadata: Mapping[str, str] = _NOTHING,
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
        """The message with the detail, for operators."""
        return f"{self.message} ({self.log_detail})" if self.log_detail else self.message


class InvalidArgument(SluiceError):
    code = "INVALID_ARGUMENT"


class OutOfRange(SluiceError):
    code = "OUT_OF_RANGE"


class FailedPrecondition(SluiceError):
    code = "FAILED_PRECONDITION"


class AlreadyExists(SluiceError):
    code = "ALREADY_EXISTS"


class NotFound(SluiceError):
    code = "NOT_FOUND"


class Aborted(SluiceError):
    code = "ABORTED"
    retryable = True


class DataLoss(SluiceError):
    code = "DATA_LOSS"


class ResourceExhausted(SluiceError):
    code = "RESOURCE_EXHAUSTED"
    retryable = True


class DeadlineExceeded(SluiceError):
    code = "DEADLINE_EXCEEDED"
    retryable = True


class Unavailable(SluiceError):
    code = "UNAVAILABLE"
    retryable = True


class Unauthenticated(SluiceError):
    code = "UNAUTHENTICATED"


class PermissionDenied(SluiceError):
    code = "PERMISSION_DENIED"


class Unimplemented(SluiceError):
    code = "UNIMPLEMENTED"


class Internal(SluiceError):
    code = "INTERNAL"
