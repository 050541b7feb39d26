"""A RepositoryService that keeps nodes in memory and breaks its streams on command."""

# ruff: noqa: N802 (methods have the names of the contract)

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from awscrt.checksums import crc32c

from sluice.repository.v1 import repository_pb2, repository_pb2_grpc
from sluice.upload.v1 import upload_pb2_grpc
from support.fake_intake import FakeIntake
from support.scripted_faults import refuse

Context = grpc.aio.ServicerContext[Any, Any]
BLOCK_BYTES = 10_000


# Size: one method for each RPC.
class FakeRepository(repository_pb2_grpc.RepositoryServiceServicer):
    """The fake service; scripts break its streams."""

    def __init__(self) -> None:
        self.nodes: dict[str, repository_pb2.Node] = {}
        self.data: dict[str, bytes] = {}
        self.drives: list[repository_pb2.Drive] = []
        self.break_after_blocks: list[int] = []
        """For each ReadNode: break after this many blocks."""
        self.flip_a_bit = False
        self.read_from: list[int] = []

    def put(self, drive: str, path: str, data: bytes) -> repository_pb2.Node:
        """Add a node as if uploaded, superseding the node at its path."""
        node = repository_pb2.Node(
            node_id=f"node-{len(self.data)}",
            drive=drive,
            path=path,
            size=len(data),
            crc32c=crc32c(data),
            content_type="application/octet-stream",
            version=1,
        )
        self.nodes[f"{drive}:{path}"] = node
        self.data[node.node_id] = data
        return node

    async def GetNode(
        self, request: repository_pb2.GetNodeRequest, context: Context
    ) -> repository_pb2.GetNodeResponse:
        return repository_pb2.GetNodeResponse(node=await self._find(request, context))

    async def DeleteNode(
        self, request: repository_pb2.DeleteNodeRequest, context: Context
    ) -> repository_pb2.DeleteNodeResponse:
        node = await self._find(request, context)
        del self.nodes[f"{node.drive}:{node.path}"]
        return repository_pb2.DeleteNodeResponse(node_id=node.node_id)

    async def ListNodes(
        self, request: repository_pb2.ListNodesRequest, context: Context
    ) -> repository_pb2.ListNodesResponse:
        """Return pages of two regardless of the request."""
        matching = sorted(
            (
                node
                for node in self.nodes.values()
                if node.drive == request.drive and node.path.startswith(request.path_prefix)
            ),
            key=lambda node: node.path,
        )
        start = int(request.page_token or 0)
        return repository_pb2.ListNodesResponse(
            nodes=matching[start : start + 2],
            next_page_token=str(start + 2) if start + 2 < len(matching) else "",
        )

    async def ReadNode(
        self, request: repository_pb2.ReadNodeRequest, context: Context
    ) -> AsyncIterator[repository_pb2.ReadNodeResponse]:
        node = await self._find(request, context)
        self.read_from.append(request.offset)
        end = request.offset + request.length if request.HasField("length") else node.size
        data = self.data[node.node_id][request.offset : end]
        if self.flip_a_bit and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        blocks_left = self.break_after_blocks.pop(0) if self.break_after_blocks else None
        yield repository_pb2.ReadNodeResponse(node=node)
        for at in range(0, len(data), BLOCK_BYTES):
            if blocks_left == 0:
                await refuse(context, grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            blocks_left = None if blocks_left is None else blocks_left - 1
            yield repository_pb2.ReadNodeResponse(data=data[at : at + BLOCK_BYTES])
        if blocks_left == 0:
            await refuse(context, grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")

    async def CreateDrive(
        self, request: repository_pb2.CreateDriveRequest, context: Context
    ) -> repository_pb2.CreateDriveResponse:
        drive = repository_pb2.Drive(
            name=request.name,
            bucket=request.bucket,
            key_prefix=request.key_prefix,
            policy=request.policy,
        )
        self.drives.append(drive)
        return repository_pb2.CreateDriveResponse(drive=drive)

    async def ListDrives(
        self, request: repository_pb2.ListDrivesRequest, context: Context
    ) -> repository_pb2.ListDrivesResponse:
        return repository_pb2.ListDrivesResponse(drives=self.drives)

    async def GetDrive(
        self, request: repository_pb2.GetDriveRequest, context: Context
    ) -> repository_pb2.GetDriveResponse:
        drive = next((one for one in self.drives if one.name == request.name), None)
        if drive is None:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "DRIVE_NOT_FOUND")
        return repository_pb2.GetDriveResponse(drive=drive)

    async def SetQuota(
        self, request: repository_pb2.SetQuotaRequest, context: Context
    ) -> repository_pb2.SetQuotaResponse:
        return repository_pb2.SetQuotaResponse(quota=request.quota)

    async def GetUsage(
        self, request: repository_pb2.GetUsageRequest, context: Context
    ) -> repository_pb2.GetUsageResponse:
        return repository_pb2.GetUsageResponse()

    async def ReserveQuota(
        self, request: repository_pb2.ReserveQuotaRequest, context: Context
    ) -> repository_pb2.ReserveQuotaResponse:
        return repository_pb2.ReserveQuotaResponse()

    async def ReleaseQuota(
        self, request: repository_pb2.ReleaseQuotaRequest, context: Context
    ) -> repository_pb2.ReleaseQuotaResponse:
        return repository_pb2.ReleaseQuotaResponse()

    async def UpdateNode(
        self, request: repository_pb2.UpdateNodeRequest, context: Context
    ) -> repository_pb2.UpdateNodeResponse:
        node = next((one for one in self.nodes.values() if one.node_id == request.node_id), None)
        if node is None:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "NODE_NOT_FOUND")
        node.version += 1
        node.metadata.clear()
        node.metadata.update(request.metadata)
        return repository_pb2.UpdateNodeResponse(node=node)

    async def UpdateDrive(
        self, request: repository_pb2.UpdateDriveRequest, context: Context
    ) -> repository_pb2.UpdateDriveResponse:
        await refuse(context, grpc.StatusCode.UNIMPLEMENTED, "NOT_IN_THE_FAKE")

    async def DeleteDrive(
        self, request: repository_pb2.DeleteDriveRequest, context: Context
    ) -> repository_pb2.DeleteDriveResponse:
        await refuse(context, grpc.StatusCode.UNIMPLEMENTED, "NOT_IN_THE_FAKE")

    async def GrantDrive(
        self, request: repository_pb2.GrantDriveRequest, context: Context
    ) -> repository_pb2.GrantDriveResponse:
        await refuse(context, grpc.StatusCode.UNIMPLEMENTED, "NOT_IN_THE_FAKE")

    async def RevokeDrive(
        self, request: repository_pb2.RevokeDriveRequest, context: Context
    ) -> repository_pb2.RevokeDriveResponse:
        await refuse(context, grpc.StatusCode.UNIMPLEMENTED, "NOT_IN_THE_FAKE")

    async def ListGrants(
        self, request: repository_pb2.ListGrantsRequest, context: Context
    ) -> repository_pb2.ListGrantsResponse:
        await refuse(context, grpc.StatusCode.UNIMPLEMENTED, "NOT_IN_THE_FAKE")

    async def ListAuditEntries(
        self, request: repository_pb2.ListAuditEntriesRequest, context: Context
    ) -> repository_pb2.ListAuditEntriesResponse:
        await refuse(context, grpc.StatusCode.UNIMPLEMENTED, "NOT_IN_THE_FAKE")

    async def GetDownloadUrl(
        self, request: repository_pb2.GetDownloadUrlRequest, context: Context
    ) -> repository_pb2.GetDownloadUrlResponse:
        await refuse(context, grpc.StatusCode.UNIMPLEMENTED, "NOT_IN_THE_FAKE")

    async def _find(
        self,
        request: repository_pb2.GetNodeRequest
        | repository_pb2.DeleteNodeRequest
        | repository_pb2.ReadNodeRequest,
        context: Context,
    ) -> repository_pb2.Node:
        if request.node_id:
            for node in self.nodes.values():
                if node.node_id == request.node_id:
                    return node
        place = f"{request.location.drive}:{request.location.path}"
        if place not in self.nodes:
            await refuse(context, grpc.StatusCode.NOT_FOUND, "NODE_NOT_FOUND")
        return self.nodes[place]


@asynccontextmanager
async def serving_both(
    intake: FakeIntake,
    repository: FakeRepository,
    *,
    credentials: grpc.ServerCredentials | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = (),
    port: int = 0,
) -> AsyncIterator[str]:
    """Serve both fakes on one address, like the standalone server; by TLS with credentials.

    Yield the address as host:port.
    """
    server = grpc.aio.server(interceptors=interceptors)
    upload_pb2_grpc.add_IntakeServiceServicer_to_server(intake, server)
    repository_pb2_grpc.add_RepositoryServiceServicer_to_server(repository, server)
    if credentials is None:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=0)
