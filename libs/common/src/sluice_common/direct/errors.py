"""Errors between an intake and its repository, as reported to the client."""

from __future__ import annotations

import grpc
import grpc.aio

from sluice_common.rpc.errors import NOT_OURS, from_rpc_error
from sluice_core.errors import DataLoss, Internal, SluiceError, Unavailable


def repository_unavailable(retry_after_seconds: float, log_detail: str = "") -> Unavailable:
    """Return the error for a chunk that does not count and may be sent again."""
    return Unavailable(
        "REPOSITORY_UNAVAILABLE",
        "The repository accepts no chunks at the moment; send the chunk again.",
        retry_after_seconds=retry_after_seconds,
        log_detail=log_detail,
    )


def to_client_error(error: grpc.aio.AioRpcError, retry_after_seconds: float) -> SluiceError:
    """Return the error for a client whose chunk was not accepted.

    Retryable errors and data loss are passed on. Any other refusal is a fault between the two
    services: the client's request was valid, so the error must not blame it.
    """
    translated = from_rpc_error(error)
    if translated.reason == NOT_OURS and error.code() is not grpc.StatusCode.UNIMPLEMENTED:
        # Refused connections, resets, a server that stops: gRPC's own status of a lost call.
        return repository_unavailable(retry_after_seconds, _tls_failure(error))
    if translated.retryable or isinstance(translated, DataLoss):
        return translated
    return Internal(
        "REPOSITORY_REFUSED",
        "The server could not store the chunk; ask its operator to check the log.",
        log_detail=f"the repository answered {error.code().name} {translated.reason}; check that "
        "it runs the release and the SLUICE_CHUNK_TRANSPORT of the intake, and lists the intake in "
        "SLUICE_TLS__PEERS",
    )


def _tls_failure(error: grpc.aio.AioRpcError) -> str:
    """Return gRPC's text of a failed handshake: an operator has to act. Else nothing."""
    details = error.details() or ""
    return details if "andshake" in details or "certificate" in details.lower() else ""
