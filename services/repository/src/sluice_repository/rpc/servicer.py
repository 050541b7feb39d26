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
from sluice_core.access.principal import current_principal
from sluice_core.errors import SluiceError
from sluice_core.objects.body import closing
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.names import check_drive_name, normalize_path
from sluice_repository.rpc.convert import (
    drive_message,
    fields_of,
    locator_of,
    node_message,
    policy_of,
    processing_message,
    thumbnail_message,
    timestamp,
    whole_seconds,
)
from sluice_repository.rpc.drives import DriveRegistry
from sluice_repository.rpc.node_reading import DEFAULT_DOWNLOAD_URL_SECONDS, NodeReader
from sluice_repository.rpc.nodes import NodeLocator, NodeRegistry, as_content
from sluice_repository.rpc.reader_slots import ReaderOptions, ReaderSlots

Context = Any  # the generated stubs' type is neither the sync nor the async one


SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["RepositoryService"].full_name


class RepositoryRpc(RepositoryServiceServicer):
    """Drives and nodes over gRPC, for the tenant of the calling principal."""

    def __init__(
        self,
        catalogue: Catalogue,
        objects: ObjectStore,
        drives: DriveRegistry,
        readers: ReaderOptions | None = None,
    ) -> None:
        self._drives = drives
        self._slots = ReaderSlots(readers or ReaderOptions())
        self._nodes = NodeRegistry(catalogue)
        self._reader = NodeReader(catalogue, objects)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service; the server's interceptors set the principal and map errors."""
        add_RepositoryServiceServicer_to_server(self, server)

    async def CreateDrive(
        self, request: pb.CreateDriveRequest, context: Context
    ) -> pb.CreateDriveResponse:
        drive = await self._drives.create(
            _tenant(), request.name, request.bucket, request.key_prefix, policy_of(request.policy)
        )
        return pb.CreateDriveResponse(drive=drive_message(drive))

    async def GetDrive(self, request: pb.GetDriveRequest, context: Context) -> pb.GetDriveResponse:
        drive = await self._drives.find(_tenant(), request.name)
        return pb.GetDriveResponse(drive=drive_message(drive))

    async def ListDrives(
        self, request: pb.ListDrivesRequest, context: Context
    ) -> pb.ListDrivesResponse:
        listing = (_tenant(), "drives")
        after = decode_page_token(request.page_token, *listing, check=check_drive_name)
        page = await self._drives.list(_tenant(), page_limit(request.page_size), after)
        return pb.ListDrivesResponse(
            drives=[drive_message(drive) for drive in page.drives],
            next_page_token=encode_page_token(page.next_after, *listing),
        )

    async def UpdateDrive(
        self, request: pb.UpdateDriveRequest, context: Context
    ) -> pb.UpdateDriveResponse:
        drive = await self._drives.update(
            _tenant(),
            request.name,
            policy_of(request.policy),
            fields_of(request.update_mask),
        )
        return pb.UpdateDriveResponse(drive=drive_message(drive))

    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.GetNodeResponse:
        node = await self._nodes.get(_tenant(), locator_of(request))
        processing = await self._nodes.processing_of(node)
        return pb.GetNodeResponse(
            node=node_message(node),
            processing=None if processing is None else processing_message(processing),
        )

    async def ListNodes(
        self, request: pb.ListNodesRequest, context: Context
    ) -> pb.ListNodesResponse:
        listing = (_tenant(), "nodes", request.drive, request.path_prefix)
        after = decode_page_token(request.page_token, *listing, check=normalize_path)
        page = await self._nodes.list(
            _tenant(), request.drive, request.path_prefix, page_limit(request.page_size), after
        )
        return pb.ListNodesResponse(
            nodes=[node_message(node) for node in page.nodes],
            next_page_token=encode_page_token(page.next_after, *listing),
        )

    async def UpdateNode(
        self, request: pb.UpdateNodeRequest, context: Context
    ) -> pb.UpdateNodeResponse:
        node = await self._nodes.update(
            _tenant(), request.node_id, request.metadata, request.if_version
        )
        return pb.UpdateNodeResponse(node=node_message(node))

    async def DeleteNode(
        self, request: pb.DeleteNodeRequest, context: Context
    ) -> pb.DeleteNodeResponse:
        node_id = await self._nodes.delete(_tenant(), locator_of(request))
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
        node = await self._nodes.get(_tenant(), locator)
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
            self._slots.slot(_tenant(), context.peer()) as reader,
            closing(self._reader.read(content, offset, length)) as blocks,
        ):
            await reader.send(await anext(blocks, b""), write)
            async for block in blocks:
                await reader.send(block, write)

    async def GetDownloadUrl(
        self, request: pb.GetDownloadUrlRequest, context: Context
    ) -> pb.GetDownloadUrlResponse:
        node = await self._nodes.get(_tenant(), locator_of(request))
        lifetime = (
            whole_seconds(request.lifetime)
            if request.HasField("lifetime")
            else DEFAULT_DOWNLOAD_URL_SECONDS
        )
        signed = await self._reader.download_url(node, lifetime)
        return pb.GetDownloadUrlResponse(url=signed.url, expires_at=timestamp(signed.expires_at))


def _tenant() -> str:
    return current_principal().tenant
