"""The exception tree of the SDK, rooted in `SluiceError`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sluice_client.model import UploadStatus

_NOTHING: Mapping[str, str] = MappingProxyType({})


class SluiceError(Exception):
    """Root of every error that the SDK raises on purpose.

        SluiceError
        ├── InvalidArgument        the request can never succeed as it is
        ├── OutOfRange             bytes beyond the declared size
        ├── FailedPrecondition     wrong state; another call has to come first
        │   ├── UploadFailed       the server ended the upload; `reason` says why
        │   ├── UploadBusy         another process is sending the same file to the same place
        │   ├── SourceChanged      the source changed since the upload began
        │   └── SourceNotRepeatable  the server needs bytes again that a one-way source cannot give
        ├── AlreadyExists          the place holds other content
        ├── NotFound               unknown, or not yours
        │   └── UploadGone         the server does not know the upload any more
        ├── Aborted                a lost race; a retry may win
        ├── DataLoss               bytes do not match their checksum
        ├── ResourceExhausted      full; retry after `retry_after_seconds`
        ├── DeadlineExceeded       not done in time
        ├── Unavailable            the server does not answer; a retry may succeed
        │   └── TlsFailed          the connection cannot be secured; `reason` says why
        ├── Unauthenticated        no token, or an invalid one
        │   └── TokenExpired       the token has expired; the client goes on with a new one
        ├── PermissionDenied       the token does not allow it
        ├── Unimplemented          this server does not support it
        └── Internal               a defect of the server

    The text says what is wrong and what to do next.

    Attributes:
        code: name of the gRPC status, e.g. "NOT_FOUND".
        reason: stable word in UPPER_SNAKE to match on; the code when the server sent none.
        message: a sentence for people.
        metadata: facts for programs, e.g. {"needed_number": "7"}.
        field: the invalid request field, if there is one.
        retry_after_seconds: wait that the server requests before a retry, if any.
        request_id: the `x-request-id` of the failed call; empty for local errors.
        upload_status: status of the upload whose end without a node made the call fail.
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
        """Whether the same call may succeed later without any other action."""
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
    """The file changed while it was being sent, so the bytes sent belong to no single version."""


class SourceNotRepeatable(FailedPrecondition):
    """The server needs bytes again from a source that can be read only once."""


class AlreadyExists(SluiceError):
    code = "ALREADY_EXISTS"


class NotFound(SluiceError):
    code = "NOT_FOUND"


class UploadGone(NotFound):
    """UPLOAD_LOST, UPLOAD_NOT_FOUND or expired: only a new upload can succeed (rule 28)."""


class Aborted(SluiceError):
    code = "ABORTED"

    @property
    def retryable(self) -> bool:
        return True


class DataLoss(SluiceError):
    code = "DATA_LOSS"


class ResourceExhausted(SluiceError):
    """Retryable only if the server names a delay: retries alone do not free a quota."""

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


class TlsFailed(Unavailable):
    """The connection cannot be secured, so nothing was sent on it.

    The first connection of a client fails at once: its address or its files are wrong. Later ones
    are retried, because certificates are being replaced.

    Reasons:
        SERVER_NOT_TRUSTED: no trusted CA issued the server's certificate.
        SERVER_NAME_MISMATCH: the certificate is another server's.
        SERVER_CERTIFICATE_EXPIRED: it is no longer, or not yet, valid.
        SERVER_WITHOUT_TLS: the address says `https`, and the server speaks plain text.
        TLS_REQUIRED: the address is plain, and the server speaks TLS.
        CLIENT_CERTIFICATE_REFUSED: the server requires a client certificate, or another one.
        TLS_HANDSHAKE_FAILED: anything else.
    """

    is_transient = False
    """Whether a retry may succeed; set by the connection that failed."""

    @property
    def retryable(self) -> bool:
        return self.is_transient


class Unauthenticated(SluiceError):
    """Retryable once the client has another token, which it asks for by itself."""

    code = "UNAUTHENTICATED"
    is_renewed = False
    """Whether there is another token now; set by the connection that was refused."""

    @property
    def retryable(self) -> bool:
        return self.is_renewed


class TokenExpired(Unauthenticated):
    """TOKEN_EXPIRED: the token was good before."""


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
