"""Nodes: finding, listing, describing and deleting them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class NodeById:
    """A node by its id: always the same one."""

    node_id: str


@dataclass(frozen=True, slots=True)
class NodeByPath:
    """Whatever node a path of a drive has now."""

    drive: str
    path: str


NodeLocator = NodeById | NodeByPath


def as_content(node: Node, thumbnail: Thumbnail) -> Node:
    """The node as if its thumbnail were its content, to be read like one."""
    return replace(
        node, size=thumbnail.size_bytes, crc32c=thumbnail.crc32c, object=thumbnail.object
    )


def _instead(found: Processing | None) -> str:
    if found is None:
        return ": the processor has not looked at it yet"
    if found.state is ProcessingState.FAILED:
        return f": processing it failed ({found.reason})"
    if not found.thumbnails:
        return ": it is no picture"
    return "; there are " + ", ".join(str(one.size) for one in found.thumbnails)


class NodeRegistry:
    """The use cases of nodes. Another tenant's node is NODE_NOT_FOUND, like one that never was."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def get(self, tenant: str, locator: NodeLocator) -> Node:
        """Raises `NotFound` NODE_NOT_FOUND or DRIVE_NOT_FOUND, `InvalidArgument` for bad names."""
        match locator:
            case NodeById(node_id):
                return await self._catalogue.get_node(tenant, check_node_id(node_id))
            case NodeByPath(drive, path):
                return await self._catalogue.find_node(
                    tenant,
                    check_drive_name(drive, "location.drive"),
                    normalize_path(path, "location.path"),
                )

    async def processing_of(self, node: Node) -> Processing | None:
        """What the processor found in a node; None until it has looked."""
        found = await self._catalogue.processing_of(node.tenant, [node.node_id])
        return found.get(node.node_id)

    async def thumbnail_of(self, node: Node, size: int) -> Thumbnail:
        """The thumbnail of exactly this size. Raises `NotFound` THUMBNAIL_NOT_FOUND, which says
        which sizes there are, or why there are none."""
        found = await self.processing_of(node)
        thumbnails = () if found is None else found.thumbnails
        for thumbnail in thumbnails:
            if thumbnail.size == size:
                return thumbnail
        raise NotFound(
            "THUMBNAIL_NOT_FOUND",
            f"The node has no thumbnail of size {size}{_instead(found)}.",
            field="thumbnail_size",
            metadata={"sizes": ",".join(str(one.size) for one in thumbnails)},
        )

    async def list(
        self, tenant: str, drive: str, path_prefix: str, limit: int, after: str
    ) -> NodePage:
        """Live nodes whose path begins with `path_prefix`, by the bytes of their path."""
        return await self._catalogue.list_nodes(
            tenant, check_drive_name(drive), check_path_prefix(path_prefix), limit, after
        )

    async def update(
        self, tenant: str, node_id: str, metadata: Mapping[str, str], if_version: int
    ) -> Node:
        """Replace the metadata, if the node has `if_version` (0: whatever it has).

        Raises `Aborted` VERSION_CONFLICT: read the node again, then repeat.
        """
        if if_version < 0:
            raise InvalidArgument(
                "BAD_VERSION", "Versions count from 1; 0 means any.", field="if_version"
            )
        return await self._catalogue.update_node(
            tenant, check_node_id(node_id), check_metadata(metadata), if_version
        )

    async def delete(self, tenant: str, locator: NodeLocator) -> str:
        """Delete a node and return its id; deleting by the same id again is no error.

        By path, it deletes the node that the path has now, which a concurrent upload may just
        have superseded: then that upload's node stays.

        Raises `PermissionDenied` DRIVE_READ_ONLY, `NotFound`.
        """
        try:
            node = await self.get(tenant, locator)
        except NotFound:
            if isinstance(locator, NodeByPath):
                raise
            # A tombstone is invisible but may be deleted again; an unknown id is NotFound here.
            await self._catalogue.delete_node(tenant, locator.node_id)
            return locator.node_id
        drive = await self._catalogue.get_drive(tenant, node.drive)
        if drive.policy.read_only:
            raise PermissionDenied(
                "DRIVE_READ_ONLY",
                f"The drive {drive.name!r} is read-only; nothing in it can be deleted.",
                field="drive",
            )
        await self._catalogue.delete_node(tenant, node.node_id)
        return node.node_id
