"""Termination of a call with the status of an error."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc.aio
from grpc_status import rpc_status

from sluice_common.rpc.errors import to_status
from sluice_core.errors import SluiceError

REQUEST_ID_KEY: Final = "x-request-id"


async def abort_with(context: Any, error: SluiceError) -> NoReturn:
    """End the call with the status of `error`.

    Raise `AbortError` once the client has received the status or has disconnected.
    """
    # abort() replaces the trailers, so include those set before (the request id).
    before = tuple(context.trailing_metadata() or ())
    request_id = str(dict(before).get(REQUEST_ID_KEY, ""))
    status = rpc_status.to_status(to_status(error, request_id))
    trailers = (*before, *(status.trailing_metadata or ()))
    await context.abort(status.code, status.details, trailers)
    raise grpc.aio.AbortError
