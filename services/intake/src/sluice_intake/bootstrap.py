"""Composition root of the intake: the only place that constructs its stages."""

from __future__ import annotations

import grpc.aio

from sluice_common.backends.coordination import CoordinationPorts
from sluice_common.rates.limiter import RateLimiter
from sluice_common.rpc.host import Service
from sluice_intake.chunks.acceptance import ChunkAcceptor
from sluice_intake.chunks.admission import ChunkAdmission
from sluice_intake.chunks.counted_ledger import CountedLedger
from sluice_intake.chunks.reception import ChunkReceiver
from sluice_intake.chunks.streaming import StreamHandler
from sluice_intake.chunks.unary import UnaryHandler
from sluice_intake.deps import IntakeDeps
from sluice_intake.drives import DriveDirectory
from sluice_intake.lookup import UploadGuard
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.options import IntakeOptions
from sluice_intake.quotas import UploadRooms
from sluice_intake.rpc.servicer import SERVICE_NAME, IntakeRpc
from sluice_intake.uploads.completion import UploadCompleter
from sluice_intake.uploads.initiation import UploadInitiator
from sluice_intake.uploads.status import StatusReader


def intake_deps(
    coordination: CoordinationPorts,
    drives: DriveDirectory,
    metrics: IntakeMetrics,
    options: IntakeOptions,
    limiter: RateLimiter | None = None,
) -> IntakeDeps:
    """Return the dependencies of the intake of one process."""
    return IntakeDeps(
        ledger=coordination.ledger,
        chunks=coordination.chunks,
        queue=coordination.queue,
        drives=drives,
        metrics=metrics,
        options=options,
        limiter=limiter,
    )


def intake_service(deps: IntakeDeps) -> Service:
    """Return IntakeService for an `RpcHost`."""
    return Service(SERVICE_NAME, lambda server: add_intake(server, deps))


def add_intake(server: grpc.aio.Server, deps: IntakeDeps) -> None:
    """Register IntakeService on `server`, whose interceptors set the principal and map errors."""
    options = deps.options
    rooms = UploadRooms(deps.ledger, deps.drives, step_bytes=options.quota_step_bytes)
    receiver = ChunkReceiver(deps.ledger, deps.chunks, rooms, options)
    counted = CountedLedger(deps.ledger, deps.metrics)
    acceptor = ChunkAcceptor(counted, deps.chunks, deps.queue, options)
    admission = ChunkAdmission(deps.ledger, deps.metrics, options)
    guard = UploadGuard(deps.ledger, deps.drives)
    unary = UnaryHandler(deps.ledger, guard, receiver, acceptor, admission, deps.metrics, options)
    completer = UploadCompleter(deps.ledger, guard, acceptor, options)
    IntakeRpc(
        initiator=UploadInitiator(deps.ledger, deps.drives, rooms, unary, completer, options),
        unary=unary,
        streams=StreamHandler(
            deps.ledger,
            guard,
            receiver,
            acceptor,
            admission,
            deps.metrics,
            options,
            deps.limiter,
        ),
        completer=completer,
        statuses=StatusReader(deps.ledger, guard, options),
        options=options,
        limiter=deps.limiter,
    ).add_to(server)
