"""Puts the intake together: the one place that constructs its stages."""

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
from sluice_intake.chunks.unary import WholeChunks
from sluice_intake.drives import DriveDirectory
from sluice_intake.options import IntakeOptions
from sluice_intake.rpc.servicer import IntakeRpc
from sluice_intake.uploads.completion import Completing
from sluice_intake.uploads.initiation import Initiating
from sluice_intake.uploads.status import Statuses


@dataclass(frozen=True, slots=True)
class IntakeDeps:
    """What an intake works on. Whoever made these closes them, after the server has stopped."""

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
    """What the intake of a process works on."""
    return IntakeDeps(
        ledger=coordination.ledger,
        chunks=coordination.chunks,
        queue=coordination.queue,
        drives=drives,
        metrics=metrics,
        options=options,
    )


def add_intake(server: grpc.aio.Server, deps: IntakeDeps) -> None:
    """Serve IntakeService on `server`; its interceptors set the principal and map errors."""
    options = deps.options
    receiving = ChunkReceiver(deps.ledger, deps.chunks, options)
    accepting = ChunkAcceptor(deps.ledger, deps.chunks, deps.queue, deps.metrics, options)
    admissions = ChunkAdmission(deps.ledger, deps.metrics, options)
    chunks = WholeChunks(deps.ledger, receiving, accepting, admissions, deps.metrics, options)
    completing = Completing(deps.ledger, accepting, options)
    IntakeRpc(
        initiating=Initiating(deps.ledger, deps.drives, chunks, completing, options),
        chunks=chunks,
        streaming=StreamHandler(
            deps.ledger, receiving, accepting, admissions, deps.metrics, options
        ),
        completing=completing,
        statuses=Statuses(deps.ledger, options),
        options=options,
    ).add_to(server)
