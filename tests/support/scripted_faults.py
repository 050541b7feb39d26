"""Scripted faults of a fake service: how a stream breaks and how a call fails."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

Context = grpc.aio.ServicerContext[Any, Any]


class Break(StrEnum):
    """How a stream ends early."""

    UNAVAILABLE = "UNAVAILABLE"
    ABORTED = "ABORTED"
    END = "END"
    """The server ends the call with OK while chunks are incomplete."""
    LOSE_ACK = "LOSE_ACK"
    """The chunk is kept; its acknowledgement is lost with the stream."""
    BUDGET_FULL = "BUDGET_FULL"
    LOOKAHEAD_EXCEEDED = "LOOKAHEAD_EXCEEDED"
    DATA_LOSS = "DATA_LOSS"
    CANCELLED = "CANCELLED"
    DENIED = "DENIED"


@dataclass(frozen=True, slots=True)
class StreamFault:
    """Breaks the stream at message number `at`; `throttle` delays every chunk before that."""

    at: int
    kind: Break
    throttle: bool = False


@dataclass(frozen=True, slots=True)
class CallFault:
    """Fails a unary call; with `done` after its work, so that only the answer is lost."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    done: bool = False
    reason: str = "BACKEND_DOWN"
    retry_after_seconds: float | None = None


async def break_stream(kind: Break, context: Context, needed_number: int = 0) -> None:
    """End a stream by an error; `needed_number` is the chunk that the server lacks."""
    match kind:
        case Break.BUDGET_FULL | Break.LOOKAHEAD_EXCEEDED:
            await refuse(
                context,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                kind,
                {"needed_number": str(needed_number)},
                retry_after_seconds=0.002,
            )
        case Break.DATA_LOSS:
            await refuse(context, grpc.StatusCode.DATA_LOSS, "CHECKSUM_MISMATCH")
        case Break.DENIED:
            await refuse(context, grpc.StatusCode.PERMISSION_DENIED, "MISSING_SCOPE")
        case Break.CANCELLED:
            await context.abort(grpc.StatusCode.CANCELLED, "the server stops")
        case _:
            await refuse(context, grpc.StatusCode[kind], "BACKEND_DOWN")


async def refuse(
    context: Context,
    code: grpc.StatusCode,
    reason: str,
    metadata: dict[str, str] | None = None,
    *,
    retry_after_seconds: float | None = None,
    attachment: Message | None = None,
) -> NoReturn:
    """End a call with the rich status of the contract."""
    status = status_pb2.Status(code=code.value[0], message=f"scripted {reason}")
    info = error_details_pb2.ErrorInfo(reason=reason, domain="sluice", metadata=metadata)
    status.details.add().Pack(info)
    if retry_after_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(round(retry_after_seconds * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if attachment is not None:
        status.details.add().Pack(attachment)
    rich = rpc_status.to_status(status)
    await context.abort(code, rich.details, rich.trailing_metadata)
    raise AssertionError("abort raises")
