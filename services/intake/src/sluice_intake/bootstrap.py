"""Composition root of the intake: the only place that constructs its stages."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc.aio

from sluice_common.backends.coordination import CoordinationPorts
from sluice_common.telemetry.metrics import Metrics
from sluice_core.ports import ChunkStore, UploadLedger, WorkQueue
from sluice_intake.chunks.acceptance import ChunkAcceptor
from sluice_intake.chunks.admission import ChunkAdmission
from sluice_intake.chunks.reception import ChunkReceiver
from sluice_intake.chunks.streaming import StreamHandler
from sluice_intake.chunks.unary import UnaryHandler
from sluice_intake.drives import DriveDirectory
from sluice_intake.lookup import UploadGuard
from sluice_intake.options import IntakeOptions
from sluice_intake.rpc.servicer import IntakeRpc
from sluice_intake.uploads.completion import UploadCompleter
from sluice_intake.uploads.initiation import UploadInitiator
from sluice_intake.uploads.status import StatusReader


@dataclass(frozen=True, slots=True)
class IntakeDeps:
    """The dependencies of an intake. The caller owns them and closes them after the server."""

    ledger: UploadLedger
    chunks: ChunkStore
    queue: WorkQueue
    drives: DriveDirectory
    metrics: Metrics
    options: IntakeOptions = field(default_factory=IntakeOptions)


def intake_deps(
    coordination: CoordinationPorts,
    drives: DriveDirectory,
    metrics: Metrics,
    options: IntakeOptions,
) -> IntakeDeps:
    """Return the dependencies of the intake of one process."""
    return IntakeDeps(
        ledger=coordination.ledger,
        chunks=coordination.chunks,
        queue=coordination.queue,
        drives=drives,
        metrics=metrics,
        options=options,
    )


def add_intake(server: grpc.aio.Server, deps: IntakeDeps) -> None:
    """Register IntakeService on `server`, whose interceptors set the principal and map errors."""
    options = deps.options
    receiver = ChunkReceiver(deps.ledger, deps.chunks, options)
    acceptor = ChunkAcceptor(deps.ledger, deps.chunks, deps.queue, deps.metrics, options)
    admission = ChunkAdmission(deps.ledger, deps.metrics, options)
    guard = UploadGuard(deps.ledger, deps.drives)
    unary = UnaryHandler(deps.ledger, guard, receiver, acceptor, admission, deps.metrics, options)
    completer = UploadCompleter(deps.ledger, guard, acceptor, options)
    IntakeRpc(
        initiator=UploadInitiator(deps.ledger, deps.drives, unary, completer, options),
        unary=unary,
        streams=StreamHandler(
            deps.ledger, guard, receiver, acceptor, admission, deps.metrics, options
        ),
        completer=completer,
        statuses=StatusReader(deps.ledger, guard, options),
        options=options,
    ).add_to(server)
