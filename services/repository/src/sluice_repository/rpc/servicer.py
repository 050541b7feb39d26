# ruff: noqa: N802 - the methods are named as the .proto names them
"""RepositoryService over gRPC: translation and delegation only.

Errors are raised as `SluiceError`; the server's interceptor maps them to a status.
"""

from __future__ import annotations

from typing import Any, Final

import grpc.aio

from sluice.repository.v1 import repository_pb2 as pb
from sluice.repository.v1.repository_pb2_grpc import (
    RepositoryServiceServicer,
    add_RepositoryServiceServicer_to_server,
)
from sluice_common.rpc.paging import decode_page_token, encode_page_token, page_limit
from sluice_common.rpc.termination import abort_with
from sluice_core.access.actions import Action
from sluice_core.access.audit import audited, drive_object, node_object
from sluice_core.access.decisions import NamedDrive, is_within_limit, may
from sluice_core.access.principal import current_principal
from sluice_core.errors import SluiceError
from sluice_core.objects.body import closing
from sluice_core.ports import LifecycleLedger
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.names import check_drive_name, normalize_path
from sluice_repository.rpc.access import DriveGuard, future_owner, viewers
from sluice_repository.rpc.audit import AuditReader, audit_cursor, audit_place
from sluice_repository.rpc.convert import (
    audit_filter_of,
    audit_message,
    drive_message,
    grant_message,
    grantee_of,
    locator_of,
    node_message,
    policy_fields_of,
    policy_of,
    processing_message,
    quota_message,
    quota_of,
    role_of,
    thumbnail_message,
    timestamp,
    usage_message,
    whole_seconds,
)
from sluice_repository.rpc.drive_deletion import DriveDeleter
from sluice_repository.rpc.drives import DriveRegistry, requested_policy_object
from sluice_repository.rpc.node_reading import DEFAULT_DOWNLOAD_URL_SECONDS, NodeReader
from sluice_repository.rpc.nodes import NodeLocator, NodeRegistry, as_content, object_of
from sluice_repository.rpc.quotas import QuotaRegistry
from sluice_repository.rpc.reader_slots import ReaderOptions, ReaderSlots
from sluice_repository.rpc.sharing import DriveSharing, grantee_at, grantee_cursor

Context = Any  # the generated stubs' type is neither the sync nor the async one


SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["RepositoryService"].full_name


# Size: one method for each RPC.
class RepositoryRpc(RepositoryServiceServicer):
    """Drives and nodes over gRPC, for the tenant of the calling principal."""

    def __init__(
        self,
        catalogue: Catalogue,
        objects: ObjectStore,
        ledger: LifecycleLedger,
        drives: DriveRegistry,
        readers: ReaderOptions | None = None,
    ) -> None:
        self._drives = drives
        self._slots = ReaderSlots(readers or ReaderOptions())
        self._guard = DriveGuard(catalogue)
        self._sharing = DriveSharing(catalogue, self._guard)
        self._deleter = DriveDeleter(catalogue, ledger, self._guard)
        self._quotas = QuotaRegistry(catalogue, ledger, self._guard)
        self._nodes = NodeRegistry(catalogue, self._guard)
        self._reader = NodeReader(catalogue, objects)
        self._audit = AuditReader(catalogue)
        self._append_audit = catalogue.append_audit

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service; the server's interceptors set the principal and map errors."""
        add_RepositoryServiceServicer_to_server(self, server)

    async def CreateDrive(
        self, request: pb.CreateDriveRequest, context: Context
    ) -> pb.CreateDriveResponse:
        audit = audited(Action.CREATE_DRIVE, drive_object(request.name))
        principal, policy = current_principal(), policy_of(request.policy)
        await self._guard.check(principal, Action.CREATE_DRIVE, request.name)
        drive = await self._drives.create(
            principal.tenant,
            request.name,
            request.bucket,
            request.key_prefix,
            policy,
            future_owner(principal, policy.access),
            audit,
        )
        # It may have existed, with the same settings.
        await self._guard.check(principal, Action.UPDATE_DRIVE, drive.name)
        return pb.CreateDriveResponse(drive=drive_message(drive))

    async def GetDrive(self, request: pb.GetDriveRequest, context: Context) -> pb.GetDriveResponse:
        principal, name = current_principal(), check_drive_name(request.name, "name")
        # Before the look-up, which would tell a token for other drives which ones exist.
        may(principal, Action.GET_DRIVE, NamedDrive(principal.tenant, name)).enforce()
        drive = await self._drives.find(principal.tenant, name)
        grants = await self._sharing.get(principal, drive)
        return pb.GetDriveResponse(
            drive=drive_message(drive),
            grants=[grant_message(grant) for grant in grants],
            has_quota=drive.has_quota,
        )

    async def ListDrives(
        self, request: pb.ListDrivesRequest, context: Context
    ) -> pb.ListDrivesResponse:
        principal = current_principal()
        listing = (principal.tenant, "drives")
        after = decode_page_token(request.page_token, *listing, check=check_drive_name)
        page = await self._drives.list(
            principal.tenant, page_limit(request.page_size), after, viewers(principal)
        )
        return pb.ListDrivesResponse(
            drives=[
                drive_message(drive)
                for drive in page.drives
                if is_within_limit(principal, drive.name)
            ],
            next_page_token=encode_page_token(page.next_after, *listing),
        )

    async def UpdateDrive(
        self, request: pb.UpdateDriveRequest, context: Context
    ) -> pb.UpdateDriveResponse:
        audited(Action.UPDATE_DRIVE, drive_object(request.name))
        principal, policy = current_principal(), policy_of(request.policy)
        fields = policy_fields_of(request)
        audit = audited(Action.UPDATE_DRIVE, requested_policy_object(request.name, policy, fields))
        await self._guard.check(
            principal, Action.UPDATE_DRIVE, check_drive_name(request.name, "name")
        )
        owner = future_owner(principal, policy.access) if "access" in fields else None
        drive = await self._drives.update(
            principal.tenant, request.name, policy, fields, owner, audit
        )
        return pb.UpdateDriveResponse(drive=drive_message(drive))

    async def DeleteDrive(
        self, request: pb.DeleteDriveRequest, context: Context
    ) -> pb.DeleteDriveResponse:
        await self._deleter.delete(current_principal(), request.name)
        return pb.DeleteDriveResponse()

    async def GrantDrive(
        self, request: pb.GrantDriveRequest, context: Context
    ) -> pb.GrantDriveResponse:
        grant = await self._sharing.grant(
            current_principal(),
            request.drive,
            grantee_of(request.grantee),
            role_of(request.role),
        )
        return pb.GrantDriveResponse(grant=grant_message(grant))

    async def RevokeDrive(
        self, request: pb.RevokeDriveRequest, context: Context
    ) -> pb.RevokeDriveResponse:
        await self._sharing.revoke(current_principal(), request.drive, grantee_of(request.grantee))
        return pb.RevokeDriveResponse()

    async def ListGrants(
        self, request: pb.ListGrantsRequest, context: Context
    ) -> pb.ListGrantsResponse:
        principal = current_principal()
        listing = (principal.tenant, "grants", request.drive)
        after = decode_page_token(request.page_token, *listing, check=grantee_at)
        page = await self._sharing.list(
            principal, request.drive, page_limit(request.page_size), grantee_at(after)
        )
        return pb.ListGrantsResponse(
            grants=[grant_message(grant) for grant in page.grants],
            next_page_token=encode_page_token(grantee_cursor(page.next_after), *listing),
        )

    async def SetQuota(self, request: pb.SetQuotaRequest, context: Context) -> pb.SetQuotaResponse:
        quota, usage = await self._quotas.set(
            current_principal(), request.drive, quota_of(request.quota)
        )
        return pb.SetQuotaResponse(quota=quota_message(quota), usage=usage_message(usage))

    async def GetUsage(self, request: pb.GetUsageRequest, context: Context) -> pb.GetUsageResponse:
        quota, usage = await self._quotas.get(current_principal(), request.drive)
        return pb.GetUsageResponse(quota=quota_message(quota), usage=usage_message(usage))

    async def ReserveQuota(
        self, request: pb.ReserveQuotaRequest, context: Context
    ) -> pb.ReserveQuotaResponse:
        has_quota = await self._quotas.reserve(
            current_principal(), request.drive, request.upload_id, request.bytes
        )
        return pb.ReserveQuotaResponse(has_quota=has_quota)

    async def ReleaseQuota(
        self, request: pb.ReleaseQuotaRequest, context: Context
    ) -> pb.ReleaseQuotaResponse:
        await self._quotas.release(current_principal(), request.drive, request.upload_id)
        return pb.ReleaseQuotaResponse()

    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.GetNodeResponse:
        node = await self._nodes.get(current_principal(), Action.GET_NODE, locator_of(request))
        processing = await self._nodes.processing_of(node)
        return pb.GetNodeResponse(
            node=node_message(node),
            processing=None if processing is None else processing_message(processing),
        )

    async def ListNodes(
        self, request: pb.ListNodesRequest, context: Context
    ) -> pb.ListNodesResponse:
        principal = current_principal()
        listing = (principal.tenant, "nodes", request.drive, request.path_prefix)
        after = decode_page_token(request.page_token, *listing, check=normalize_path)
        page = await self._nodes.list(
            principal, request.drive, request.path_prefix, page_limit(request.page_size), after
        )
        return pb.ListNodesResponse(
            nodes=[node_message(node) for node in page.nodes],
            next_page_token=encode_page_token(page.next_after, *listing),
        )

    async def UpdateNode(
        self, request: pb.UpdateNodeRequest, context: Context
    ) -> pb.UpdateNodeResponse:
        node = await self._nodes.update(
            current_principal(), request.node_id, request.metadata, request.if_version
        )
        return pb.UpdateNodeResponse(node=node_message(node))

    async def DeleteNode(
        self, request: pb.DeleteNodeRequest, context: Context
    ) -> pb.DeleteNodeResponse:
        node_id = await self._nodes.delete(current_principal(), locator_of(request))
        return pb.DeleteNodeResponse(node_id=node_id)

    async def ReadNode(  # type: ignore[override]  # grpc also accepts a coroutine that writes
        self, request: pb.ReadNodeRequest, context: Context
    ) -> None:
        # A download may take hours: keep only these values, not the request.
        locator, offset = locator_of(request), request.offset
        length = request.length if request.HasField("length") else None
        thumbnail_size = request.thumbnail_size
        del request
        # Write instead of yielding, so that a stalled client is detected.
        async with self._slots.call_slot(context.peer()):
            try:
                await self._read_node(locator, offset, length, thumbnail_size, context)
            except SluiceError as error:
                await abort_with(context, error)

    async def _read_node(
        self,
        locator: NodeLocator,
        offset: int,
        length: int | None,
        thumbnail_size: int,
        context: Context,
    ) -> None:
        node = await self._nodes.get(current_principal(), Action.READ_NODE, locator)
        content, description = node, None
        if thumbnail_size:
            thumbnail = await self._nodes.thumbnail_of(node, thumbnail_size)
            content, description = as_content(node, thumbnail), thumbnail_message(thumbnail)
        # The node is sent with the first data, or alone when the content is empty.
        first = pb.ReadNodeResponse(node=node_message(node), thumbnail=description)

        async def write(data: bytes) -> None:
            nonlocal first
            message, first = first, pb.ReadNodeResponse()
            message.data = data
            await context.write(message)

        async with (
            self._slots.slot(node.tenant, context.peer()) as reader,
            closing(self._reader.read(content, offset, length)) as blocks,
        ):
            await reader.send(await anext(blocks, b""), write)
            async for block in blocks:
                await reader.send(block, write)

    async def GetDownloadUrl(
        self, request: pb.GetDownloadUrlRequest, context: Context
    ) -> pb.GetDownloadUrlResponse:
        locator = locator_of(request)
        audited(Action.GET_DOWNLOAD_URL, object_of(locator))
        node = await self._nodes.get(current_principal(), Action.GET_DOWNLOAD_URL, locator)
        audit = audited(Action.GET_DOWNLOAD_URL, node_object(node.node_id))
        lifetime = (
            whole_seconds(request.lifetime)
            if request.HasField("lifetime")
            else DEFAULT_DOWNLOAD_URL_SECONDS
        )
        signed = await self._reader.download_url(node, lifetime)
        # Before the answer: nobody gets a URL that is not recorded.
        await self._append_audit([] if audit is None else [audit])
        return pb.GetDownloadUrlResponse(url=signed.url, expires_at=timestamp(signed.expires_at))

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: Context
    ) -> pb.ListAuditEntriesResponse:
        principal, wanted = current_principal(), audit_filter_of(request)
        listing = (
            principal.tenant,
            "audit",
            str(wanted.since),
            str(wanted.until),
            wanted.subject,
            wanted.action,
        )
        after = decode_page_token(request.page_token, *listing, check=audit_place)
        page = await self._audit.list(
            principal, page_limit(request.page_size), audit_place(after), wanted
        )
        return pb.ListAuditEntriesResponse(
            entries=[audit_message(entry) for entry in page.entries],
            next_page_token=encode_page_token(audit_cursor(page.next_after), *listing),
        )
