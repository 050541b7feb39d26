"""Completion of an upload: CompleteUpload, then the wait for the visible node (rules 7, 8, 18)."""

from __future__ import annotations

from contextlib import aclosing

from sluice_client.errors import DeadlineExceeded, FailedPrecondition, SluiceError, Unavailable
from sluice_client.model import UploadState, UploadStatus
from sluice_client.progress import Meter, Phase
from sluice_client.retry import Patience, retrying
from sluice_client.uploads.intake_api import IntakeApi

_WATCH_SECONDS = 15.0
"""Deadline of one WatchUpload call: bounds the detection of a silent connection and the delay of
progress reports.
"""
_INCOMPLETE = frozenset({"CHUNKS_MISSING", "UPLOAD_ENDED"})
"""Refusals of CompleteUpload that the upload's status explains better."""


class Completer:
    """Completes one upload and waits for its end."""

    def __init__(
        self, intake: IntakeApi, patience: Patience, meter: Meter, wait_seconds: float
    ) -> None:
        self._intake = intake
        self._patience = patience
        self._meter = meter
        self._wait_seconds = wait_seconds

    async def complete(
        self, upload_id: str, *, total_chunks: int | None, crc32c: int, sha256: bytes | None
    ) -> UploadStatus:
        """Request completion. Return a terminal status, or UPLOADING when chunks are missing."""
        self._meter.enter(Phase.COMPLETING)
        try:
            status = await retrying(
                lambda: self._intake.complete(
                    upload_id,
                    total_chunks=total_chunks,
                    crc32c=crc32c,
                    sha256=sha256,
                    wait_seconds=self._wait_seconds,
                ),
                self._patience,
            )
        except SluiceError as error:
            if error.upload_status is not None:
                # The upload ended without a node; an older server answers OK with its status.
                status = error.upload_status
            elif isinstance(error, FailedPrecondition) and error.reason in _INCOMPLETE:
                status = await retrying(lambda: self._intake.status(upload_id), self._patience)
            else:
                raise
        return await self.wait(status)

    async def wait(self, status: UploadStatus) -> UploadStatus:
        """Follow an upload while it is COMPLETING.

        Raise DeadlineExceeded COMPLETION_PENDING when nothing changed for as long as patience
        lasts: the bytes are safe, and the server continues.
        """
        attempt = 0
        while status.state is UploadState.COMPLETING:
            self._meter.stored(status.stored_bytes)
            try:
                status = await self._next(status)
                attempt = 0
            except DeadlineExceeded as error:
                idle_seconds = self._patience.idle_seconds
                if idle_seconds >= self._patience.policy.patience_seconds:
                    raise _pending(status) from error
                self._meter.wait(Phase.COMPLETING, _waiting_for(status), idle_seconds)
            except SluiceError as error:
                await self._patience.pause(error, attempt)
                attempt += 1
        return status

    async def _next(self, status: UploadStatus) -> UploadStatus:
        snapshots = self._intake.watch(status.upload_id, status.sequence, _WATCH_SECONDS)
        async with aclosing(snapshots):
            async for snapshot in snapshots:
                self._patience.progressed()
                self._meter.stored(snapshot.stored_bytes)
                if snapshot.state is not UploadState.COMPLETING:
                    return snapshot
                status = snapshot
        raise Unavailable("WATCH_ENDED", "the server stopped reporting before the upload ended")


def _waiting_for(status: UploadStatus) -> str:
    return (
        "the server has every byte and has not assembled the object yet"
        f" ({status.stored_bytes:,} of {status.received_bytes:,} bytes are in its object store)"
    )


def _pending(status: UploadStatus) -> DeadlineExceeded:
    return DeadlineExceeded(
        "COMPLETION_PENDING",
        "every byte is safe on the server, which has not assembled the object yet; it continues"
        f", see `sluice watch {status.upload_id}`",
        metadata={"upload_id": status.upload_id},
    )
