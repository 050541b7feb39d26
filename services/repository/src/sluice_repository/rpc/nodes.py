"""Use cases of nodes: lookup, listing, metadata and deletion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sluice_core.access.actions import Action
from sluice_core.access.audit import audited, drive_object, node_object
from sluice_core.access.decisions import depends_on_grants
from sluice_core.access.principal import Principal
from sluice_core.catalogue.processing import Processing, ProcessingState, Thumbnail
from sluice_core.errors import InvalidArgument, NotFound, PermissionDenied
from sluice_core.ports.catalogue import Catalogue, Node, NodePage
from sluice_core.uploads.names import (
    check_drive_name,
    check_metadata,
    check_node_id,
    check_path_prefix,
    normalize_path,
)
from sluice_repository.rpc.access import DriveGuard


@dataclass(frozen=True, slots=True)
class NodeById:
    """Locator by id: always the same node."""

    node_id: str


@dataclass(frozen=True, slots=True)
class NodeByPath:
    """Locator by path: the node that a path of a drive has now."""

    drive: str
    path: str


NodeLocator = NodeById | NodeByPath


def object_of(locator: NodeLocator) -> str:
    """Return the object for the audit log: the node, or the drive of a path."""
    if isinstance(locator, NodeById):
        return node_object(locator.node_id)
    return drive_object(locator.drive)


def as_content(node: Node, thumbnail: Thumbnail) -> Node:
    """Return the node with the thumbnail as its content, so that it can be read like a node."""
    return replace(
        node, size=thumbnail.size_bytes, crc32c=thumbnail.crc32c, object=thumbnail.object
    )


def _thumbnail_advice(processing: Processing | None) -> str:
    """Return what follows "no thumbnail of size N": the cause or the sizes to ask for."""
    if processing is None:
        return ": it is not processed yet; try again later"
    if processing.state is ProcessingState.FAILED:
        return f": processing it failed ({processing.reason})"
    if not processing.thumbnails:
        return ": it is not a picture"
    return "; use one of " + ", ".join(str(one.size) for one in processing.thumbnails)


class NodeRegistry:
    """The use cases of nodes. Another tenant's node is NODE_NOT_FOUND, like an unknown one."""

    def __init__(self, catalogue: Catalogue, guard: DriveGuard) -> None:
        self._catalogue = catalogue
        self._guard = guard

    async def get(self, principal: Principal, action: Action, locator: NodeLocator) -> Node:
        """Return the node that `locator` names, if the caller may do `action` with it.

        Raise `NotFound` NODE_NOT_FOUND or DRIVE_NOT_FOUND, `InvalidArgument` for invalid names,
        `PermissionDenied` MISSING_SCOPE or NOT_GRANTED.
        """
        match locator:
            case NodeById(node_id):
                node = await self._catalogue.get_node(principal.tenant, check_node_id(node_id))
                await self._guard.check(principal, action, node.drive)
                return node
            case NodeByPath(drive, path):
                check_drive_name(drive, "location.drive")
                path = normalize_path(path, "location.path")
                # First, so that a refused caller does not learn which paths exist.
                await self._guard.check(principal, action, drive)
                return await self._catalogue.find_node(principal.tenant, drive, path)

    async def processing_of(self, node: Node) -> Processing | None:
        """Return the processor's result for a node; None until the node is processed."""
        by_node = await self._catalogue.processing_of(node.tenant, [node.node_id])
        return by_node.get(node.node_id)

    async def thumbnail_of(self, node: Node, size: int) -> Thumbnail:
        """Return the thumbnail of exactly this size.

        Raise `NotFound` THUMBNAIL_NOT_FOUND, which states the sizes that exist or why there are
        none.
        """
        processing = await self.processing_of(node)
        thumbnails = () if processing is None else processing.thumbnails
        for thumbnail in thumbnails:
            if thumbnail.size == size:
                return thumbnail
        raise NotFound(
            "THUMBNAIL_NOT_FOUND",
            f"The node has no thumbnail of size {size}{_thumbnail_advice(processing)}.",
            field="thumbnail_size",
            metadata={"sizes": ",".join(str(one.size) for one in thumbnails)},
        )

    async def list(
        self, principal: Principal, drive: str, path_prefix: str, limit: int, after: str
    ) -> NodePage:
        """Return live nodes whose path begins with `path_prefix`, ordered by path bytes."""
        check_drive_name(drive)
        prefix = check_path_prefix(path_prefix)
        await self._guard.check(principal, Action.LIST_NODES, drive)
        return await self._catalogue.list_nodes(principal.tenant, drive, prefix, limit, after)

    async def update(
        self, principal: Principal, node_id: str, metadata: Mapping[str, str], if_version: int
    ) -> Node:
        """Replace the metadata if the node has version `if_version` (0: any version).

        Raise `Aborted` VERSION_CONFLICT: read the node again, then repeat.
        """
        audit = audited(Action.UPDATE_NODE, node_object(node_id))
        if if_version < 0:
            raise InvalidArgument(
                "BAD_VERSION",
                "if_version is negative; give a version from 1, or 0 for any.",
                field="if_version",
            )
        check_node_id(node_id)
        entries = check_metadata(metadata)
        if depends_on_grants(principal, Action.UPDATE_NODE) or principal.drives:
            await self.get(principal, Action.UPDATE_NODE, NodeById(node_id))
        return await self._catalogue.update_node(
            principal.tenant, node_id, entries, if_version, audit=audit
        )

    async def delete(self, principal: Principal, locator: NodeLocator) -> str:
        """Delete a node and return its id. Deletion by id is idempotent.

        Deletion by path deletes the node found at the path. If a concurrent upload supersedes that
        node meanwhile, the upload's node stays.

        Raise `PermissionDenied` DRIVE_READ_ONLY, and the errors of `get`.
        """
        audited(Action.DELETE_NODE, object_of(locator))
        try:
            node = await self.get(principal, Action.DELETE_NODE, locator)
        except NotFound:
            if isinstance(locator, NodeByPath):
                raise
            # A tombstone is invisible but can be deleted again. An unknown id raises NotFound, and
            # so does a node that was committed just now: whether the caller may is not decided.
            await self._catalogue.delete_node(
                principal.tenant, locator.node_id, only_tombstone=True
            )
            return locator.node_id
        audit = audited(Action.DELETE_NODE, node_object(node.node_id))
        drive = await self._catalogue.get_drive(principal.tenant, node.drive)
        if drive.policy.read_only:
            raise PermissionDenied(
                "DRIVE_READ_ONLY",
                f"The drive {drive.name!r} is read-only; clear read_only before you delete nodes.",
                field="drive",
            )
        await self._catalogue.delete_node(principal.tenant, node.node_id, audit=audit)
        return node.node_id
