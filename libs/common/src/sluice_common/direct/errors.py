"""What can go wrong between an intake and its repository, in the words that a client is told."""

from __future__ import annotations

import grpc
import grpc.aio

from sluice_common.rpc.errors import NOT_OURS, from_rpc_error
from sluice_core.errors import DataLoss, Internal, SluiceError, Unavailable


def repository_unavailable(retry_after_seconds: float) -> Unavailable:
    """Nothing of the chunk counts; the same chunk may be sent again."""
    return Unavailable(
        "REPOSITORY_UNAVAILABLE",
        "The repository does not take chunks at the moment; send the chunk again.",
        retry_after_seconds=retry_after_seconds,
    )


def told_to_client(error: grpc.aio.AioRpcError, retry_after_seconds: float) -> SluiceError:
    """The error of a client whose chunk did not get through.

    What a retry may heal stays what it is. Anything else that the repository refuses is between
    the two services: the client's request was in order, so it must not be blamed for it.
    """
    told = from_rpc_error(error)
    if told.reason == NOT_OURS and error.code() is not grpc.StatusCode.UNIMPLEMENTED:
        # Refused connections, resets, a server that stops: gRPC's own words for a lost call.
        return repository_unavailable(retry_after_seconds)
    if told.retryable or isinstance(told, DataLoss):
        return told
    return Internal(
        "REPOSITORY_REFUSED",
        "The server refused the chunk inside of itself, which its operator has to look into.",
        log_detail=f"the repository answered {error.code().name} {told.reason}; does it run the "
        "release and the SLUICE_CHUNK_TRANSPORT of the intake?",
    )
