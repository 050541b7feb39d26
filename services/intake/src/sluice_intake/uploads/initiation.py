"""InitiateUpload: validation of the request and creation of the upload."""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from sluice_common.process.crash_points import CrashPoint, crash_point
from sluice_common.rpc.frames import Header
from sluice_core.access.actions import Action
from sluice_core.access.decisions import NamedDrive, Refusal, depends_on_grants, may
from sluice_core.access.principal import Principal
from sluice_core.concurrency.cancellation import finish_despite_cancel
from sluice_core.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SluiceError,
)
from sluice_core.ledger.refusals import request_id_conflict
from sluice_core.ports import LifecycleLedger
from sluice_core.ports.catalogue import Drive
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.uploads.ids import new_node_id, new_upload_id
from sluice_core.uploads.model import MAX_CHUNKS, NewUpload, ObjectRef, UploadSnapshot
from sluice_core.uploads.names import (
    check_content_type,
    check_drive_name,
    check_metadata,
    check_request_id,
    check_sha256,
    normalize_path,
)
from sluice_core.uploads.planner import choose_part_bytes
from sluice_intake.chunks.unary import UnaryHandler
from sluice_intake.drives import DriveDirectory
from sluice_intake.options import IntakeOptions
from sluice_intake.quotas import UploadRooms
from sluice_intake.uploads.completion import UploadCompleter
from sluice_intake.uploads.outcomes import check_not_ended

_log = structlog.get_logger(__name__)

_UNKNOWN_CONTENT = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class InitiateRequest:
    """The request of a caller before validation."""

    drive: str
    path: str
    content_type: str = ""
    expected_size: int | None = None
    chunk_size: int | None = None
    sha256: bytes | None = None
    crc32c: int | None = None
    metadata: Mapping[str, str] | None = None
    if_absent: bool = False
    request_id: str = ""
    inline_data: bytes | None = None
    trace_parent: str = ""


class UploadInitiator:
    """The stage that opens uploads."""

    def __init__(
        self,
        ledger: LifecycleLedger,
        drives: DriveDirectory,
        rooms: UploadRooms,
        unary: UnaryHandler,
        completer: UploadCompleter,
        options: IntakeOptions,
    ) -> None:
        self._ledger = ledger
        self._drives = drives
        self._rooms = rooms
        self._unary = unary
        self._completer = completer
        self._options = options

    async def initiate(self, principal: Principal, request: InitiateRequest) -> UploadSnapshot:
        """Open an upload; with a request id, a repeated call returns the existing upload.

        With inline data the returned upload is COMPLETING or in a later state.

        Raise `InvalidArgument`, `NotFound` DRIVE_NOT_FOUND, `PermissionDenied` NOT_GRANTED,
        MISSING_SCOPE or DRIVE_READ_ONLY, `FailedPrecondition` UNIFORM_REQUIRED, `AlreadyExists`
        PATH_EXISTS, `ResourceExhausted` QUOTA_EXCEEDED and the errors of `UploadLedger.create`;
        with inline data also those of `UploadCompleter.request`.
        """
        request = self._validate(request)
        access = await self._open_drive(principal, request.drive)
        drive = access.drive
        _check_policy(drive, request)
        new = self._new_upload(principal, drive, request)
        if request.if_absent:
            await self._check_absent(new, is_repeatable=bool(request.request_id))
        snapshot = await self._create(drive, new, is_repeatable=bool(request.request_id))
        owner = snapshot.new.subject
        if not access.may(principal, Action.UPLOAD_CHUNK, owner).allowed:
            raise request_id_conflict()  # somebody else of the tenant used it
        if request.inline_data is None:
            return snapshot
        check_not_ended(snapshot)  # a repeated call may find an ended upload
        return await self._store_inline(principal, snapshot, request)

    async def _open_drive(self, principal: Principal, name: str) -> DriveWithGrants:
        """Return the drive if the caller may upload to it.

        A drive is created on first use only for a caller that might create it by CreateDrive.
        """
        action, named = Action.INITIATE_UPLOAD, NamedDrive(principal.tenant, name)
        with_grants = depends_on_grants(principal, action)
        if not with_grants:
            may(principal, action, named).enforce()
        access = await self._drives.get(
            principal.tenant,
            name,
            create=may(principal, Action.CREATE_DRIVE, named).allowed,
            with_grants=with_grants,
        )
        access.may(principal, action).enforce()
        return access

    def _validate(self, request: InitiateRequest) -> InitiateRequest:
        """Return the validated request with normalized names and default values."""
        options = self._options
        path = normalize_path(request.path)
        if request.expected_size is not None and not (
            0 <= request.expected_size <= options.max_object_bytes
        ):
            raise InvalidArgument(
                "BAD_EXPECTED_SIZE",
                f"The expected size is invalid; declare 0 to {options.max_object_bytes} bytes.",
                field="expected_size",
            )
        self._check_chunk_size(request)
        self._check_inline(request)
        return InitiateRequest(
            drive=check_drive_name(request.drive),
            path=path,
            content_type=check_content_type(request.content_type) or _guess_content_type(path),
            expected_size=request.expected_size,
            chunk_size=request.chunk_size,
            sha256=None if request.sha256 is None else check_sha256(request.sha256),
            crc32c=request.crc32c,
            metadata=check_metadata(request.metadata or {}),
            if_absent=request.if_absent,
            request_id=check_request_id(request.request_id),
            inline_data=request.inline_data,
            trace_parent=request.trace_parent,
        )

    def _check_chunk_size(self, request: InitiateRequest) -> None:
        size, largest = request.chunk_size, self._options.ledger.max_chunk_bytes
        if size is None:
            return
        if not 0 < size <= largest:
            raise InvalidArgument(
                "BAD_CHUNK_SIZE",
                f"The chunk size is invalid; declare 1 to {largest} bytes.",
                field="chunk_size",
            )
        if request.expected_size is not None and request.expected_size > size * MAX_CHUNKS:
            raise InvalidArgument(
                "CHUNK_SIZE_TOO_SMALL",
                f"The object would have more than {MAX_CHUNKS} chunks; declare larger ones.",
                field="chunk_size",
            )

    def _check_inline(self, request: InitiateRequest) -> None:
        if request.inline_data is None:
            return
        size, largest = len(request.inline_data), self._options.max_inline_bytes
        if size > largest:
            raise InvalidArgument(
                "INLINE_TOO_LARGE",
                f"Inline data has at most {largest} bytes; send a larger object as chunks.",
                field="inline_data",
            )
        if request.expected_size not in (None, size):
            raise InvalidArgument(
                "SIZE_MISMATCH",
                "The expected size is not that of the inline data; correct it or leave it out.",
                field="expected_size",
            )

    async def _create(self, drive: Drive, new: NewUpload, *, is_repeatable: bool) -> UploadSnapshot:
        """Open the upload with room for it under the quota of its drive.

        The reservation comes first: a refused upload leaves nothing, and that of an upload that a
        kill prevented is released by the sweeper.
        """
        # A repeated call changes nothing, even if the upload has ended since.
        is_repeated = drive.has_quota and is_repeatable and await self._is_known(new.upload_id)
        if not is_repeated:
            await self._rooms.reserve_new(drive, new)
        crash_point(CrashPoint.AFTER_RESERVE_QUOTA)
        try:
            snapshot = await self._ledger.create(new)
        except ResourceExhausted:
            await self._rooms.release_new(drive, new)
            raise
        except AlreadyExists:
            # Another request with this request id came first, while this one reserved.
            if not is_repeated:
                await finish_despite_cancel(self._rooms.give_back(drive, new))
            raise
        self._rooms.opened(drive, snapshot.new)
        return snapshot

    async def _check_absent(self, new: NewUpload, *, is_repeatable: bool) -> None:
        """Refuse a path that has a node now, before the client sends any bytes. Best effort.

        If the directory is unavailable, or the caller's token may not read nodes, the upload
        proceeds: completion decides (rule 19).
        """
        try:
            is_taken = await self._drives.holds(new.tenant, new.drive, new.path)
        except SluiceError as error:
            if not (error.retryable or error.reason == Refusal.MISSING_SCOPE):
                raise
            _log.warning("path.check_skipped", drive=new.drive, reason=error.reason)
            return
        # The node may be that of the repeated call's own upload.
        if is_taken and not (is_repeatable and await self._is_known(new.upload_id)):
            raise AlreadyExists(
                "PATH_EXISTS",
                "The path has a node already; choose another path, or leave if_absent out.",
                field="path",
            )

    async def _is_known(self, upload_id: str) -> bool:
        try:
            await self._ledger.get(upload_id)
        except NotFound:
            return False
        return True

    def _new_upload(
        self, principal: Principal, drive: Drive, request: InitiateRequest
    ) -> NewUpload:
        node_id = new_node_id()
        inline_size = None if request.inline_data is None else len(request.inline_data)
        expected_size = request.expected_size if inline_size is None else inline_size
        return NewUpload(
            upload_id=new_upload_id(self._ledger.nonce, principal.tenant, request.request_id),
            node_id=node_id,
            tenant=principal.tenant,
            subject=principal.subject,
            drive=drive.name,
            path=request.path,
            content_type=request.content_type,
            fingerprint=_fingerprint(request),
            object=ObjectRef(
                bucket=drive.bucket or self._options.default_bucket,
                key=f"{drive.key_prefix}{principal.tenant}/{drive.name}/{node_id}",  # rule 14
            ),
            part_bytes=choose_part_bytes(
                drive.policy.part_bytes or self._options.default_part_bytes, expected_size
            ),
            integrity=drive.policy.integrity,
            expected_size=expected_size,
            # Inline data is a single chunk, so a chunk size does not apply.
            chunk_size=request.chunk_size if inline_size is None else None,
            sha256=request.sha256,
            crc32c=request.crc32c,
            metadata=request.metadata or {},
            if_absent=request.if_absent,
            storage_class=drive.policy.storage_class,
            encryption=drive.policy.encryption,
            trace_parent=request.trace_parent,
        )

    async def _store_inline(
        self, principal: Principal, snapshot: UploadSnapshot, request: InitiateRequest
    ) -> UploadSnapshot:
        """Accept the whole object as its only chunk and request the completion."""
        data = memoryview(request.inline_data or b"")
        upload_id = snapshot.upload_id
        header = Header(upload_id, 0, len(data), request.crc32c, is_last=True, force=False)
        try:
            await self._unary.accept_unchecked(principal.tenant, header, data)
            completion = await self._completer.request_unchecked(
                principal.tenant, upload_id, total_chunks=1
            )
        except (SluiceError, asyncio.CancelledError):
            if not request.request_id:
                # The client cannot resume this upload: it never learned the id.
                await finish_despite_cancel(self._abort(upload_id))
            raise
        return completion.snapshot

    async def _abort(self, upload_id: str) -> None:
        try:
            await self._ledger.abort(upload_id)
        except SluiceError as error:
            # The upload is completing already, or it will expire.
            _log.warning("upload.abort_failed", upload_id=upload_id, reason=error.reason)


def _check_policy(drive: Drive, request: InitiateRequest) -> None:
    if drive.policy.read_only:
        raise PermissionDenied("DRIVE_READ_ONLY", "The drive is read-only; choose another drive.")
    declared = request.chunk_size is not None and request.expected_size is not None
    if drive.policy.require_uniform and not declared and request.inline_data is None:
        raise FailedPrecondition(
            "UNIFORM_REQUIRED",
            "This drive needs equal parts: declare chunk_size and expected_size.",
        )


def _guess_content_type(path: str) -> str:
    # The encoding, such as gzip, is ignored: it concerns only the reader.
    return mimetypes.guess_type(path.rpartition("/")[2], strict=False)[0] or _UNKNOWN_CONTENT


def _fingerprint(request: InitiateRequest) -> str:
    """Return a digest of the arguments, which detects a request id reused for another request."""
    arguments = {
        "drive": request.drive,
        "path": request.path,
        "content_type": request.content_type,
        "expected_size": request.expected_size,
        "chunk_size": request.chunk_size,
        "sha256": None if request.sha256 is None else request.sha256.hex(),
        "crc32c": request.crc32c,
        "metadata": dict(request.metadata or {}),
        "if_absent": request.if_absent,
        "inline_sha256": None
        if request.inline_data is None
        else hashlib.sha256(request.inline_data).hexdigest(),
    }
    return hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
