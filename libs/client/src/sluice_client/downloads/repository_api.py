"""RepositoryService as values of the SDK: one attempt per call, typed errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime

from sluice.repository.v1 import repository_pb2, repository_pb2_grpc
from sluice_client import translate
from sluice_client.connection import Connection
from sluice_client.errors import InvalidArgument, Unimplemented
from sluice_client.model import AuditEntry, Drive, DrivePolicy, Grant, Node, Quota, Role, Usage
from sluice_client.names import check_text, normalize_path, request_values

_NodeRequest = (
    repository_pb2.GetNodeRequest
    | repository_pb2.DeleteNodeRequest
    | repository_pb2.ReadNodeRequest
)


@dataclass(frozen=True, slots=True)
class NodeRef:
    """Reference to a node, by id or by drive and path."""

    node_id: str = ""
    drive: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        if bool(self.node_id) == bool(self.drive and self.path):
            raise InvalidArgument(
                "BAD_NODE", "Name the node either by node_id, or by drive and path."
            )

    def put_into(self, request: _NodeRequest) -> None:
        """Set the node in a request. Raise InvalidArgument NOT_UTF8."""
        if self.node_id:
            request.node_id = check_text(self.node_id, "node_id")
        else:
            request.location.drive = check_text(self.drive, "drive")
            request.location.path = normalize_path(self.path)


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Entries of the audit log to list: from `since` on, before `until`, of one subject or action.

    Raise InvalidArgument BAD_TIME for a time without a zone.
    """

    since: datetime | None = None
    until: datetime | None = None
    subject: str = ""
    action: str = ""

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None and moment.utcoffset() is None:
                raise InvalidArgument("BAD_TIME", "A time has no time zone; give it one, e.g. UTC.")


@dataclass(frozen=True, slots=True)
class GranteeRef:
    """Receiver of a role: a subject or a group."""

    subject: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        if bool(self.subject) == bool(self.group):
            raise InvalidArgument("BAD_GRANTEE", "Name either a subject or a group.")

    def message(self) -> repository_pb2.Grantee:
        if self.group:
            return repository_pb2.Grantee(group=self.group)
        return repository_pb2.Grantee(subject=self.subject)


class RepositoryApi:
    """The calls of RepositoryService over one connection."""

    def __init__(self, connection: Connection, call_timeout_seconds: float) -> None:
        self.connection = connection
        self._timeout_seconds = call_timeout_seconds
        self._stub: repository_pb2_grpc.RepositoryServiceAsyncStub = (
            repository_pb2_grpc.RepositoryServiceStub(connection.channel)
        )

    async def create_drive(
        self, name: str, bucket: str, key_prefix: str, policy: DrivePolicy
    ) -> Drive:
        with request_values():
            request = repository_pb2.CreateDriveRequest(
                name=name,
                bucket=bucket,
                key_prefix=key_prefix,
                policy=translate.drive_policy(policy),
            )
        answer = await self.connection.unary(self._stub.CreateDrive, request, self._timeout_seconds)
        return translate.drive(answer.drive)

    async def get_drive(self, name: str) -> Drive:
        with request_values():
            request = repository_pb2.GetDriveRequest(name=name)
        answer = await self.connection.unary(self._stub.GetDrive, request, self._timeout_seconds)
        return translate.drive(answer.drive)

    async def list_drives(self, page_size: int, page_token: str) -> tuple[list[Drive], str]:
        with request_values():
            request = repository_pb2.ListDrivesRequest(page_size=page_size, page_token=page_token)
        answer = await self.connection.unary(self._stub.ListDrives, request, self._timeout_seconds)
        return [translate.drive(one) for one in answer.drives], answer.next_page_token

    async def update_drive(self, name: str, policy: DrivePolicy, fields: Collection[str]) -> Drive:
        with request_values():
            request = repository_pb2.UpdateDriveRequest(
                name=name, policy=translate.drive_policy(policy)
            )
        request.update_mask.paths.extend(sorted(fields))
        answer = await self.connection.unary(self._stub.UpdateDrive, request, self._timeout_seconds)
        return translate.drive(answer.drive)

    async def delete_drive(self, name: str) -> None:
        with request_values():
            request = repository_pb2.DeleteDriveRequest(name=name)
        await self.connection.unary(self._stub.DeleteDrive, request, self._timeout_seconds)

    async def grant_drive(self, drive: str, grantee: GranteeRef, role: Role) -> Grant:
        with request_values():
            request = repository_pb2.GrantDriveRequest(
                drive=drive, grantee=grantee.message(), role=translate.role_number(role)
            )
        answer = await self.connection.unary(self._stub.GrantDrive, request, self._timeout_seconds)
        return translate.grant(answer.grant)

    async def revoke_drive(self, drive: str, grantee: GranteeRef) -> None:
        with request_values():
            request = repository_pb2.RevokeDriveRequest(drive=drive, grantee=grantee.message())
        await self.connection.unary(self._stub.RevokeDrive, request, self._timeout_seconds)

    async def list_grants(
        self, drive: str, page_size: int, page_token: str
    ) -> tuple[list[Grant], str]:
        with request_values():
            request = repository_pb2.ListGrantsRequest(
                drive=drive, page_size=page_size, page_token=page_token
            )
        answer = await self.connection.unary(self._stub.ListGrants, request, self._timeout_seconds)
        return [translate.grant(one) for one in answer.grants], answer.next_page_token

    async def list_audit(
        self, wanted: AuditQuery, page_size: int, page_token: str
    ) -> tuple[list[AuditEntry], str]:
        with request_values():
            request = repository_pb2.ListAuditEntriesRequest(
                page_size=page_size,
                page_token=page_token,
                subject=wanted.subject,
                action=wanted.action,
            )
            if wanted.since is not None:
                request.since.FromDatetime(wanted.since)
            if wanted.until is not None:
                request.until.FromDatetime(wanted.until)
        answer = await self.connection.unary(
            self._stub.ListAuditEntries, request, self._timeout_seconds
        )
        return [translate.audit_entry(one) for one in answer.entries], answer.next_page_token

    async def set_quota(self, drive: str, quota: Quota) -> Usage:
        with request_values():
            request = repository_pb2.SetQuotaRequest(
                drive=drive, quota=translate.quota_message(quota)
            )
        answer = await self.connection.unary(self._stub.SetQuota, request, self._timeout_seconds)
        return translate.usage(answer)

    async def get_usage(self, drive: str) -> Usage:
        with request_values():
            request = repository_pb2.GetUsageRequest(drive=drive)
        answer = await self.connection.unary(self._stub.GetUsage, request, self._timeout_seconds)
        return translate.usage(answer)

    async def get_node(self, ref: NodeRef) -> Node:
        request = repository_pb2.GetNodeRequest()
        ref.put_into(request)
        answer = await self.connection.unary(self._stub.GetNode, request, self._timeout_seconds)
        node = translate.node(answer.node)
        if answer.HasField("processing"):
            node = replace(node, processing=translate.processing(answer.processing))
        return node

    async def list_nodes(
        self, drive: str, prefix: str, page_size: int, page_token: str
    ) -> tuple[list[Node], str]:
        with request_values():
            request = repository_pb2.ListNodesRequest(
                drive=drive, path_prefix=prefix, page_size=page_size, page_token=page_token
            )
        answer = await self.connection.unary(self._stub.ListNodes, request, self._timeout_seconds)
        return [translate.node(one) for one in answer.nodes], answer.next_page_token

    async def update_node(self, node_id: str, metadata: Mapping[str, str], if_version: int) -> Node:
        with request_values():
            request = repository_pb2.UpdateNodeRequest(
                node_id=node_id, metadata=metadata, if_version=if_version
            )
        answer = await self.connection.unary(self._stub.UpdateNode, request, self._timeout_seconds)
        return translate.node(answer.node)

    async def delete_node(self, ref: NodeRef) -> str:
        request = repository_pb2.DeleteNodeRequest()
        ref.put_into(request)
        answer = await self.connection.unary(self._stub.DeleteNode, request, self._timeout_seconds)
        return answer.node_id

    async def read_node(
        self, ref: NodeRef, offset: int, length: int | None, thumbnail_size: int = 0
    ) -> AsyncGenerator[tuple[Node | None, bytes], None]:
        """Yield blocks from `offset`; the node comes with the first message.

        With a thumbnail's size, yield the thumbnail's bytes instead; the node then has the
        thumbnail's size, type and CRC32C, and no SHA-256.
        """
        with request_values():
            request = repository_pb2.ReadNodeRequest(
                offset=offset, length=length, thumbnail_size=thumbnail_size
            )
        ref.put_into(request)
        # No deadline: the duration depends on the node's size. Keepalive ends a dead connection.
        async with aclosing(self.connection.pushed(self._stub.ReadNode, request, None)) as answers:
            async for answer in answers:
                node = translate.node(answer.node) if answer.HasField("node") else None
                if node is not None and answer.HasField("thumbnail"):
                    node = replace(
                        node,
                        size=answer.thumbnail.size_bytes,
                        content_type=answer.thumbnail.content_type,
                        crc32c=answer.thumbnail.crc32c,
                        sha256=None,
                    )
                if node is not None and thumbnail_size and not answer.HasField("thumbnail"):
                    raise Unimplemented(
                        "THUMBNAILS_UNSUPPORTED", "This server is too old to have thumbnails."
                    )
                yield node, answer.data
