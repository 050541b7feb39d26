"""The nodes of the repository that the tus server reads and deletes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final

import grpc.aio

from sluice.repository.v1 import repository_pb2, repository_pb2_grpc
from sluice_core.errors import NotFound, PermissionDenied
from sluice_gateway.tus.calls import answered, caller_metadata, error_of

_CALL_SECONDS: Final = 10.0


class RepositoryNodes:
    """Nodes of the caller of the current request.

    Args:
        channel: to the repository; owned by the caller.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = repository_pb2_grpc.RepositoryServiceStub(channel)

    async def read(self, node_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a node from an offset on. Raise the errors of ReadNode."""
        request = repository_pb2.ReadNodeRequest(node_id=node_id, offset=offset)
        call = self._stub.ReadNode(request, metadata=caller_metadata())
        try:
            async for response in call:
                if response.data:
                    yield response.data
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error
        finally:
            call.cancel()

    async def is_deleted(self, node_id: str) -> bool:
        """Return whether a node that was stored is deleted.

        False for a caller who may not read nodes, who cannot have deleted it. Raise the errors of
        GetNode.
        """
        request = repository_pb2.GetNodeRequest(node_id=node_id)
        try:
            await answered(
                self._stub.GetNode(request, timeout=_CALL_SECONDS, metadata=caller_metadata())
            )
        except NotFound:
            return True
        except PermissionDenied:
            return False
        return False

    async def delete(self, node_id: str) -> None:
        """Delete a node, unless it is deleted. Raise the errors of DeleteNode."""
        request = repository_pb2.DeleteNodeRequest(node_id=node_id)
        with suppress(NotFound):
            await answered(
                self._stub.DeleteNode(request, timeout=_CALL_SECONDS, metadata=caller_metadata())
            )
