"""Conversion of gRPC statuses to exceptions of `errors.py`."""

from __future__ import annotations

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sluice.upload.v1 import upload_pb2
from sluice_client import translate
from sluice_client.errors import (
    BY_CODE,
    Internal,
    NotFound,
    SluiceError,
    TokenExpired,
    Unauthenticated,
    Unavailable,
    UploadGone,
)
from sluice_client.model import UploadStatus
from sluice_client.tls.failures import tls_failure

_GONE = frozenset({"UPLOAD_LOST", "UPLOAD_NOT_FOUND"})
_TORN_TRANSPORT = (
    "RST_STREAM",
    "Stream removed",
    "Socket closed",
    "Connection reset",
    "GOAWAY",
)
"""Texts of gRPC for a connection that broke during a call, where the code is not UNAVAILABLE."""


def from_rpc_error(error: grpc.aio.AioRpcError, target: str, request_id: str = "") -> SluiceError:
    """Return the typed error of a failed call, with its ErrorInfo, BadRequest and RetryInfo, if
    any.
    """
    status = _rich_status(error)
    details = _details(status)
    code = error.code().name
    text = error.details() or "the server gave no explanation"
    if not details.reason and _is_torn(error):
        return Unavailable(
            "CONNECTION_BROKEN", f"the connection to {target} broke: {text}", request_id=request_id
        )
    if not details.reason and code == "UNAVAILABLE":
        insecure = tls_failure(text, target, request_id)
        if insecure is not None:
            return insecure
        return Unavailable(
            "SERVER_UNREACHABLE",
            f"no answer from {target}: {_innermost(text)}",
            retry_after_seconds=details.retry_after_seconds,
            request_id=request_id,
        )
    kind = BY_CODE.get(code, Internal)
    if kind is NotFound and details.reason in _GONE:
        kind = UploadGone
    elif kind is Unauthenticated and details.reason == "TOKEN_EXPIRED":
        kind = TokenExpired
    return kind(
        details.reason or code,
        text.removeprefix(f"{details.reason}: ") if details.reason else text,
        metadata=details.metadata,
        field=details.field,
        retry_after_seconds=details.retry_after_seconds,
        request_id=request_id,
        upload_status=details.upload_status,
    )


def _innermost(text: str) -> str:
    """Return the last reason of a chain like "A failed: [B failed: C]": gRPC puts causes in
    brackets.
    """
    return text.rpartition(": ")[2].rstrip("]")


class _Details:
    """The parts of google.rpc.Status details that the contract names."""

    def __init__(self) -> None:
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.field: str | None = None
        self.retry_after_seconds: float | None = None
        self.upload_status: UploadStatus | None = None


def _rich_status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:
        # The details are of another status than the call's (a proxy replaced it): ignore them.
        return None
    return status if isinstance(status, status_pb2.Status) else None


def _details(status: status_pb2.Status | None) -> _Details:
    result = _Details()
    for packed in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        retry = error_details_pb2.RetryInfo()
        bad = error_details_pb2.BadRequest()
        upload = upload_pb2.UploadStatus()
        if packed.Unpack(info):
            result.reason = info.reason
            result.metadata = dict(info.metadata)
        elif packed.Unpack(retry):
            result.retry_after_seconds = _seconds(retry.retry_delay)
        elif packed.Unpack(bad) and bad.field_violations:
            result.field = bad.field_violations[0].field
        elif packed.Unpack(upload):
            result.upload_status = translate.upload_status(upload)
    return result


def _seconds(duration: duration_pb2.Duration) -> float:
    return max(0.0, duration.seconds + duration.nanos / 1e9)


def _is_torn(error: grpc.aio.AioRpcError) -> bool:
    """Return whether the connection broke: CANCELLED by the peer, or a disguised transport failure.

    A call that this process cancels raises asyncio.CancelledError, never this.
    """
    if error.code() is grpc.StatusCode.CANCELLED:
        return True
    text = error.details() or ""
    return error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN) and any(
        sign in text for sign in _TORN_TRANSPORT
    )
