"""Calls to other Sluice services on behalf of the caller of a request."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import grpc.aio

from sluice_common.rpc.errors import NOT_OURS, from_rpc_error
from sluice_common.telemetry.tracing import current_traceparent
from sluice_core.access.principal import current_authorization
from sluice_core.errors import SluiceError
from sluice_gateway.tus.refusals import intake_unavailable

T = TypeVar("T")

Metadata = tuple[tuple[str, str], ...]


def caller_metadata() -> Metadata:
    """Return the credentials and the trace of the current request."""
    pairs = (("authorization", current_authorization()), ("traceparent", current_traceparent()))
    return tuple((key, value) for key, value in pairs if value)


async def answered(call: Awaitable[T]) -> T:
    """Return the answer of a call. Raise the error of the other service."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise error_of(error) from error


def error_of(error: grpc.aio.AioRpcError) -> SluiceError:
    """Return the other service's error; INTAKE_UNAVAILABLE if it did not answer.

    The text of gRPC itself is only logged, because it contains addresses.
    """
    answer = from_rpc_error(error)
    if answer.reason == NOT_OURS:
        return intake_unavailable(f"{error.code().name}: {answer.message}")
    return answer
