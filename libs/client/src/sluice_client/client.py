"""The client: one object per server, for any number of concurrent transfers."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sluice_client.blocks import BlockPool
from sluice_client.connection import Connection
from sluice_client.downloads.download import Destination, NodeReader, download
from sluice_client.downloads.repository_api import AuditQuery, GranteeRef, NodeRef, RepositoryApi
from sluice_client.errors import InvalidArgument, SluiceError
from sluice_client.local_files import named_descriptor
from sluice_client.model import (
    AuditEntry,
    DownloadResult,
    Drive,
    DrivePolicy,
    Grant,
    Limits,
    Node,
    Quota,
    Role,
    UploadResult,
    UploadState,
    UploadStatus,
    Usage,
)
from sluice_client.names import check_metadata, check_text, normalize_path
from sluice_client.options import ClientOptions
from sluice_client.progress import Meter, ProgressCallback
from sluice_client.retry import Patience, retrying
from sluice_client.tokens import Tokens, TokenSource
from sluice_client.uploads.intake_api import IntakeApi
from sluice_client.uploads.journal import Journal, open_journal, state_dir
from sluice_client.uploads.requests import ExtraStreams, UploadRequest
from sluice_client.uploads.resume_record import JournalWarning, ResumeRecord, resume_record
from sluice_client.uploads.sources import FileSource, Source, open_source
from sluice_client.uploads.upload import Upload

T = TypeVar("T")

_PAGE_SIZE = 1000
_WATCH_SECONDS = 60.0


# Size: the SDK's public surface.
class Client:
    """Async context manager around the connections to one server.

        async with Client("127.0.0.1:50051") as client:
            result = await client.upload("photo.jpg", drive="photos", path="2026/photo.jpg")

    Every method retries what is worth retrying (see `RetryPolicy`) and raises a `SluiceError`
    otherwise; local files raise OSError. One client serves any number of concurrent calls, on one
    event loop.

    Args:
        target: `host:port`, `https://host:port` for TLS, or a gRPC target.
        token: bearer token; a path (not a string) of a file that has it, re-read when it changes;
            an async function that returns one, called for the first call and whenever the server
            reports that the token has expired; None sends none. Transfers go on with the new token
            where they were. In plain text it leaves this machine only with `allow_insecure`.
        options: see `ClientOptions`.

    Entering raises InvalidArgument (BAD_TARGET, BAD_TOKEN, BAD_TLS_FILES, INSECURE_TOKEN), and
    OSError for a file of token or TLS that cannot be read.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        token: TokenSource | None = None,
        options: ClientOptions | None = None,
    ) -> None:
        self.target = target
        self.options = options or ClientOptions()
        self._token = token
        self._connections: list[Connection] = []
        self._limits: Limits | None = None
        self._journal_warning = JournalWarning()
        self._pool = BlockPool()
        self._extra = ExtraStreams(self.options.extra_streams)

    async def __aenter__(self) -> Self:
        tokens = Tokens(self._token)
        intake = Connection(self.target, tokens, self.options, self.options.connections)
        self._connections = [intake]
        repository = intake
        other = self.options.repository_target
        if other is not None and other != self.target:
            repository = Connection(other, tokens, self.options, 1)
            self._connections.append(repository)
        for connection in self._connections:
            await connection.open()
        timeout = self.options.call_timeout_seconds
        self._intake = IntakeApi(intake, timeout)
        self._repository = RepositoryApi(repository, timeout)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for connection in self._connections:
            await connection.close()

    # -- transfers

    async def upload(
        self,
        source: Source,
        *,
        drive: str,
        path: str,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        sha256: bool | bytes = False,
        chunk_size: int | None = None,
        streams: int | None = None,
        on_progress: ProgressCallback | None = None,
        resume: bool = True,
    ) -> UploadResult:
        """Upload a source and return when its node is visible.

        Keep the source until this returns: the server may ask again for bytes that it had
        acknowledged (docs/protocol.md, rule 7). An async iterator or a pipe cannot provide them
        again: the upload then fails with SourceNotRepeatable, and another run cannot resume it.
        Files can: the same call after a crash resumes where the last one stopped.

        Args:
            source: a path, bytes, a binary file object, or an async iterator of bytes. A path may
                name a pipe or a device, which is read once to its end.
            drive: the drive; it must exist unless the server creates drives on demand.
            path: of the node; relative, "/" between segments, at most 1,024 bytes in NFC.
            content_type: MIME type; None lets the server guess it from the path.
            metadata: at most 64 entries, 8 KiB together.
            if_absent: raise AlreadyExists when the path has a node, now or at completion.
            sha256: True computes the SHA-256 (one more pass over the source) and claims it; 32 raw
                bytes are claimed as given. The server verifies it before the node is visible.
            chunk_size: bytes of every chunk but the last; None means the server's preference.
            streams: parallel streams; None means 1 to `max_streams`, by size.
            on_progress: called on the event loop now and then; must not block.
            resume: keep a journal of a file's upload so that another run can resume it. Where none
                can be written, the upload proceeds without it and warns once per client.

        Raise `UploadFailed` when the server ended the upload (`reason` says why), `UploadBusy` when
        another run is uploading the same file to the same place, `SourceChanged` when the file
        changed while it was read, and `OSError` when it cannot be read. For `AlreadyExists`,
        `InvalidArgument`, `NotFound`, `PermissionDenied` and others see errors.py.
        """
        if isinstance(sha256, bytes) and len(sha256) != 32:
            raise InvalidArgument("BAD_SHA256", "A SHA-256 is 32 raw bytes.", field="sha256")
        if streams is not None and streams < 1:
            raise InvalidArgument("BAD_STREAMS", "At least one stream is needed.", field="streams")
        request = UploadRequest(
            drive=check_text(drive, "drive"),
            path=normalize_path(path),
            content_type=check_text(content_type or "", "content_type"),
            metadata=check_metadata(metadata or {}),
            if_absent=if_absent,
            sha256=sha256,
            chunk_size=chunk_size,
            streams=streams,
        )
        async with open_source(source, self._pool) as opened:
            limits = await self.limits()
            upload = Upload(
                intake=self._intake,
                limits=limits,
                refresh_limits=self._fresh_limits,
                request=request,
                options=self.options,
                extra=self._extra,
                on_progress=on_progress,
            )
            # Small files travel in one call, and streams can be read once: there is nothing to
            # resume.
            small = opened.size is not None and opened.size <= limits.max_inline_bytes
            if (
                not resume
                or small
                or not isinstance(source, str | os.PathLike)
                or not isinstance(opened, FileSource)
                or named_descriptor(source) is not None
            ):
                return await upload.run(opened, ResumeRecord(None))
            file = Path(source)

            def journal() -> Journal:
                directory = state_dir(self.options.state_dir)
                return open_journal(directory, self.target, drive, request.path, file)

            def journal_failed(error: OSError) -> None:
                self._journal_warning.give(error, None if on_progress is None else upload.notify)

            with resume_record(journal, journal_failed) as record:
                return await upload.run(opened, record)

    async def download(
        self,
        destination: Destination = None,
        *,
        node_id: str = "",
        drive: str = "",
        path: str = "",
        offset: int = 0,
        length: int | None = None,
        thumbnail_size: int = 0,
        on_progress: ProgressCallback | None = None,
    ) -> DownloadResult:
        """Read a node, named by its id or by drive and path.

        Args:
            destination: a path, a binary file object, or None for the bytes in the result. A file
                is replaced when every byte is verified, never written in part; an existing pipe or
                device is written into, and links are followed.
            offset: first byte to read.
            length: bytes to read; None means to the end.
            thumbnail_size: read the node's thumbnail of this size instead, see `stat`.
            on_progress: as in `upload`.

        Raise `DataLoss` when the bytes do not match the node's CRC32C (whole nodes only), `OSError`
        that names the destination when it cannot be written, and `IsADirectoryError` when it is a
        folder.
        """
        reader = self._reader(NodeRef(node_id, drive, path), offset, length, thumbnail_size)
        return await download(reader, destination, Meter(on_progress, None))

    async def read(
        self,
        *,
        node_id: str = "",
        drive: str = "",
        path: str = "",
        offset: int = 0,
        length: int | None = None,
        thumbnail_size: int = 0,
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a node in blocks of at most 1 MiB, resuming after broken connections.

        A whole node is verified at its end: when this raises an error, do not trust what was read.
        """
        reader = self._reader(NodeRef(node_id, drive, path), offset, length, thumbnail_size)
        async with aclosing(reader.blocks()) as blocks:
            async for block in blocks:
                yield block

    # -- uploads

    async def limits(self) -> Limits:
        """Return the server's sizes and lifetimes; requested once per client."""
        if self._limits is None:
            self._limits = await self._retrying(self._intake.limits)
        return self._limits

    async def _fresh_limits(self) -> Limits:
        """Request the limits again: a restarted server may have others."""
        self._limits = None
        return await self.limits()

    async def status(self, upload_id: str) -> UploadStatus:
        """Return the current status of an upload."""
        return await self._retrying(lambda: self._intake.status(upload_id))

    async def watch(
        self, upload_id: str, after_sequence: int = 0
    ) -> AsyncGenerator[UploadStatus, None]:
        """Yield snapshots of an upload until it has ended, resuming after broken connections."""
        patience = self._patience()
        attempt = 0
        while True:
            snapshots = self._intake.watch(upload_id, after_sequence, _WATCH_SECONDS)
            try:
                async with aclosing(snapshots):
                    async for snapshot in snapshots:
                        attempt = 0
                        patience.progressed()
                        after_sequence = snapshot.sequence
                        yield snapshot
                        if snapshot.state.terminal:
                            return
            except SluiceError as error:
                if error.code == "DEADLINE_EXCEEDED":
                    # Nothing changed within the deadline. That is no failure: watch again.
                    patience.progressed()
                    continue
                await patience.pause(error, attempt)
                attempt += 1

    async def abort(self, upload_id: str) -> UploadStatus:
        """Abort an upload that is not complete. Idempotent."""
        return await self._retrying(lambda: self._intake.abort(upload_id))

    async def list_uploads(
        self, states: Sequence[UploadState] = ()
    ) -> AsyncGenerator[UploadStatus, None]:
        """Yield the caller's uploads, newest first. Fetch pages as they are consumed."""
        pages = self._pages(lambda token: self._intake.list_uploads(states, _PAGE_SIZE, token))
        async with aclosing(pages):
            async for upload in pages:
                yield upload

    # -- nodes

    async def stat(self, *, node_id: str = "", drive: str = "", path: str = "") -> Node:
        """Return the record of a node, with the processor's results."""
        ref = NodeRef(node_id, drive, path)
        return await self._retrying(lambda: self._repository.get_node(ref))

    async def list_nodes(self, drive: str, prefix: str = "") -> AsyncGenerator[Node, None]:
        """Yield nodes whose path begins with `prefix`, by path.

        Fetch pages as they are consumed.
        """
        normalized = normalize_path(prefix, "path_prefix")
        pages = self._pages(
            lambda token: self._repository.list_nodes(drive, normalized, _PAGE_SIZE, token)
        )
        async with aclosing(pages):
            async for node in pages:
                yield node

    async def update_node(
        self, node_id: str, metadata: Mapping[str, str], *, if_version: int = 0
    ) -> Node:
        """Replace a node's metadata; with `if_version`, only if the node still has that version."""
        return await self._retrying(
            lambda: self._repository.update_node(node_id, metadata, if_version)
        )

    async def delete(self, *, node_id: str = "", drive: str = "", path: str = "") -> str:
        """Delete a node. Return its id."""
        ref = NodeRef(node_id, drive, path)
        return await self._retrying(lambda: self._repository.delete_node(ref))

    # -- drives

    async def create_drive(
        self,
        name: str,
        *,
        bucket: str = "",
        key_prefix: str = "",
        policy: DrivePolicy | None = None,
    ) -> Drive:
        """Create a drive. No-op if an equal one exists."""
        chosen = policy or DrivePolicy()
        return await self._retrying(
            lambda: self._repository.create_drive(name, bucket, key_prefix, chosen)
        )

    async def get_drive(self, name: str) -> Drive:
        """Return the record of a drive."""
        return await self._retrying(lambda: self._repository.get_drive(name))

    async def list_drives(self) -> AsyncGenerator[Drive, None]:
        """Yield the drives that the caller may use, by name."""
        pages = self._pages(lambda token: self._repository.list_drives(_PAGE_SIZE, token))
        async with aclosing(pages):
            async for drive in pages:
                yield drive

    async def update_drive(self, name: str, **changes: Any) -> Drive:
        """Change these fields of a drive's policy, e.g. `access=Access.GRANTS`.

        The arguments are the fields of `DrivePolicy`. Who closes a drive becomes its owner.
        """
        if not changes:  # without a mask the server would replace the whole policy
            raise InvalidArgument("NO_CHANGES", "Give at least one field of the policy.")
        policy = DrivePolicy(**changes)
        return await self._retrying(
            lambda: self._repository.update_drive(name, policy, tuple(changes))
        )

    async def delete_drive(self, name: str) -> None:
        """Delete a drive without nodes and open uploads, with its grants."""
        await self._retrying(lambda: self._repository.delete_drive(name))

    async def grant_drive(
        self, name: str, role: Role, *, subject: str = "", group: str = ""
    ) -> Grant:
        """Give a subject or a group a role on a drive, in place of a former one. Idempotent."""
        grantee = GranteeRef(subject, group)
        return await self._retrying(lambda: self._repository.grant_drive(name, grantee, role))

    async def revoke_drive(self, name: str, *, subject: str = "", group: str = "") -> None:
        """Take the role of a subject or a group away. Idempotent."""
        grantee = GranteeRef(subject, group)
        await self._retrying(lambda: self._repository.revoke_drive(name, grantee))

    async def list_grants(self, name: str) -> AsyncGenerator[Grant, None]:
        """Yield all grants of a drive, groups first."""
        pages = self._pages(lambda token: self._repository.list_grants(name, _PAGE_SIZE, token))
        async with aclosing(pages):
            async for grant in pages:
                yield grant

    # -- audit

    async def list_audit(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        subject: str = "",
        action: str = "",
    ) -> AsyncGenerator[AuditEntry, None]:
        """Yield the audit log of the tenant, newest first, from `since` on and before `until`.

        Needs the scope `tenant:admin`. `action`: the name of an RPC, e.g. "DeleteNode".
        """
        wanted = AuditQuery(since, until, subject, action)
        pages = self._pages(lambda token: self._repository.list_audit(wanted, _PAGE_SIZE, token))
        async with aclosing(pages):
            async for entry in pages:
                yield entry

    async def set_quota(self, drive: str, quota: Quota) -> Usage:
        """Set the limits of a drive, or of the whole tenant (""), in place of all former ones.

        A quota without any limit removes it. Idempotent. Return the usage.
        """
        return await self._retrying(lambda: self._repository.set_quota(drive, quota))

    async def get_usage(self, drive: str = "") -> Usage:
        """Return limits and usage of a drive, or of the whole tenant."""
        return await self._retrying(lambda: self._repository.get_usage(drive))

    # -- inside

    def _patience(self) -> Patience:
        return Patience(self.options.retry, reached=self._reached)

    def _reached(self) -> bool:
        return any(connection.reached for connection in self._connections)

    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        return await retrying(call, self._patience())

    async def _pages(
        self, fetch: Callable[[str], Awaitable[tuple[list[T], str]]]
    ) -> AsyncGenerator[T, None]:
        """Yield all items of a paged call. Fetch a page when it is needed."""
        token = ""
        while True:
            items, token = await self._retrying(partial(fetch, token))
            for item in items:
                yield item
            if not token:
                return

    def _reader(
        self, ref: NodeRef, offset: int, length: int | None, thumbnail_size: int
    ) -> NodeReader:
        return NodeReader(
            self._repository,
            ref,
            offset,
            length,
            self._patience(),
            self.options.stall_seconds,
            thumbnail_size,
        )
