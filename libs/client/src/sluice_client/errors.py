"""The one exception tree of the SDK.

    SluiceError
    ├── InvalidArgument        the request can never work as it is
    ├── OutOfRange             bytes beyond the declared size
    ├── FailedPrecondition     not in this state; another call has to come first
    │   ├── UploadFailed       the server ended the upload; `reason` says why
    │   ├── UploadBusy         another process is sending the same file to the same place
    │   ├── SourceChanged      the source is not what it was when the upload began
    │   └── SourceNotRepeatable  the server needs bytes again that a one-way source cannot give
    ├── AlreadyExists          the place is taken by other content
    ├── NotFound               unknown, or not yours
    │   └── UploadGone         the server does not know the upload any more
    ├── Aborted                a lost race; the same call may win
    ├── DataLoss               bytes do not match their checksum
    ├── ResourceExhausted      full; come back after `retry_after_seconds`
    ├── DeadlineExceeded       not done in time
    ├── Unavailable            the server does not answer; the same call may work later
    ├── Unauthenticated        no token, or one that is not valid
    ├── PermissionDenied       the token does not allow it
    ├── Unimplemented          this server cannot
    └── Internal               a defect of the server

`code` is the name of the gRPC status, `reason` a stable UPPER_SNAKE word to match on, `metadata`
holds facts for programs. The text says what is wrong and what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sluice_client.model import UploadStatus

_NOTHING: Mapping[str, str] = MappingProxyType({})


class SluiceError(Exception):
    """Root of everything the SDK raises on purpose.

    Attributes:
        code: name of the gRPC status, e.g. "NOT_FOUND".
        reason: stable word in UPPER_SNAKE; the code itself when the server named none.
        message: a sentence for people.
        metadata: facts for programs, e.g. {"needed_number": "7"}.
        field: the request field at fault, if one is.
        retry_after_seconds: how long the server asks to wait before the same call, if it does.
        request_id: the `x-request-id` of the call that failed; empty for local errors.
        upload_status: of the upload that ended without a node, where that is why a call failed.
    """

    code: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] = _NOTHING,
        field: str | None = None,
        retry_after_seconds: float | None = None,
        request_id: str = "",
        upload_status: UploadStatus | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.metadata = metadata
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id
        self.upload_status = upload_status

    @property
    def retryable(self) -> bool:
        """Whether the same call may work later, without anything else being done first."""
        return False


class InvalidArgument(SluiceError):
    code = "INVALID_ARGUMENT"


class OutOfRange(SluiceError):
    code = "OUT_OF_RANGE"


class FailedPrecondition(SluiceError):
    code = "FAILED_PRECONDITION"


class UploadFailed(FailedPrecondition):
    """The upload ended without becoming a node; metadata holds `upload_id` and `state`."""


class UploadBusy(FailedPrecondition):
    """Another process holds the resume journal of the same upload."""


class SourceChanged(FailedPrecondition):
    """The file changed while it was being sent, so the bytes sent belong to no one version."""


class SourceNotRepeatable(FailedPrecondition):
    """The server needs bytes again that came from a source which can be read only once."""


class AlreadyExists(SluiceError):
    code = "ALREADY_EXISTS"


class NotFound(SluiceError):
    code = "NOT_FOUND"


class UploadGone(NotFound):
    """UPLOAD_LOST, UPLOAD_NOT_FOUND or expired: only a new upload helps (rule 28)."""


class Aborted(SluiceError):
    code = "ABORTED"

    @property
    def retryable(self) -> bool:
        return True


class DataLoss(SluiceError):
    code = "DATA_LOSS"


class ResourceExhausted(SluiceError):
    """Retryable only where the server says when: a quota does not free itself by asking again."""

    code = "RESOURCE_EXHAUSTED"

    @property
    def retryable(self) -> bool:
        return self.retry_after_seconds is not None


class DeadlineExceeded(SluiceError):
    code = "DEADLINE_EXCEEDED"

    @property
    def retryable(self) -> bool:
        return True


class Unavailable(SluiceError):
    code = "UNAVAILABLE"

    @property
    def retryable(self) -> bool:
        return True


class Unauthenticated(SluiceError):
    code = "UNAUTHENTICATED"


class PermissionDenied(SluiceError):
    code = "PERMISSION_DENIED"


class Unimplemented(SluiceError):
    code = "UNIMPLEMENTED"


class Internal(SluiceError):
    code = "INTERNAL"


BY_CODE: Mapping[str, type[SluiceError]] = MappingProxyType(
    {
        kind.code: kind
        for kind in (
            InvalidArgument,
            OutOfRange,
            FailedPrecondition,
            AlreadyExists,
            NotFound,
            Aborted,
            DataLoss,
            ResourceExhausted,
            DeadlineExceeded,
            Unavailable,
            Unauthenticated,
            PermissionDenied,
            Unimplemented,
            Internal,
        )
    }
)
"""The class for each gRPC status name; others (UNKNOWN, CANCELLED) become Internal."""
