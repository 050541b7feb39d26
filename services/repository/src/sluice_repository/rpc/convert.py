"""Between the wire's messages and the values of the repository."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from sluice.repository.v1 import repository_pb2 as pb
from sluice_core.catalogue.processing import Processing, ProcessingState, Thumbnail
from sluice_core.errors import InvalidArgument
from sluice_core.ports.catalogue import Drive, DrivePolicy, Node
from sluice_core.uploads.model import Integrity
from sluice_repository.rpc.nodes import NodeById, NodeByPath, NodeLocator

_INTEGRITY_BY_NUMBER = {
    pb.INTEGRITY_UNSPECIFIED: DrivePolicy().integrity,
    pb.INTEGRITY_CRC: Integrity.CRC,
    pb.INTEGRITY_SHA256_ASYNC: Integrity.SHA256_ASYNC,
    pb.INTEGRITY_SHA256_BEFORE_VISIBLE: Integrity.SHA256_BEFORE_VISIBLE,
}
_NUMBER_BY_INTEGRITY = {
    Integrity.CRC: pb.INTEGRITY_CRC,
    Integrity.SHA256_ASYNC: pb.INTEGRITY_SHA256_ASYNC,
    Integrity.SHA256_BEFORE_VISIBLE: pb.INTEGRITY_SHA256_BEFORE_VISIBLE,
}

_MAX_MASK_PATHS = 64
"""Of one mask, repeated ones included: more than a policy will ever have."""


def locator_of(
    request: pb.GetNodeRequest
    | pb.DeleteNodeRequest
    | pb.ReadNodeRequest
    | pb.GetDownloadUrlRequest,
) -> NodeLocator:
    """Raises `InvalidArgument` NODE_REQUIRED when the request names none."""
    match request.WhichOneof("node"):
        case "node_id":
            return NodeById(request.node_id)
        case "location":
            return NodeByPath(request.location.drive, request.location.path)
        case _:
            raise InvalidArgument(
                "NODE_REQUIRED", "Name the node, by node_id or by location.", field="node"
            )


def policy_of(message: pb.DrivePolicy) -> DrivePolicy:
    """Raises `InvalidArgument` BAD_POLICY for an integrity that this release does not know."""
    integrity = _INTEGRITY_BY_NUMBER.get(message.integrity)
    if integrity is None:
        raise InvalidArgument(
            "BAD_POLICY",
            "This server does not know the integrity asked for.",
            field="policy.integrity",
        )
    return DrivePolicy(
        integrity=integrity,
        part_bytes=message.part_bytes,
        require_uniform=message.require_uniform,
        read_only=message.read_only,
        storage_class=message.storage_class,
        encryption=message.encryption,
        drop_location=message.drop_location,
    )


def fields_of(mask: FieldMask) -> frozenset[str]:
    """The fields that a mask names. `InvalidArgument` BAD_UPDATE_MASK for far too many."""
    if len(mask.paths) > _MAX_MASK_PATHS:
        raise InvalidArgument(
            "BAD_UPDATE_MASK",
            "The update mask names more fields than a policy has; name each once.",
            field="update_mask",
        )
    return frozenset(mask.paths)


def drive_message(drive: Drive) -> pb.Drive:
    return pb.Drive(
        name=drive.name,
        bucket=drive.bucket,
        key_prefix=drive.key_prefix,
        policy=pb.DrivePolicy(
            integrity=_NUMBER_BY_INTEGRITY[drive.policy.integrity],
            part_bytes=drive.policy.part_bytes,
            require_uniform=drive.policy.require_uniform,
            read_only=drive.policy.read_only,
            storage_class=drive.policy.storage_class,
            encryption=drive.policy.encryption,
            drop_location=drive.policy.drop_location,
        ),
        created_at=timestamp(drive.created_at),
        updated_at=timestamp(drive.updated_at),
    )


def node_message(node: Node) -> pb.Node:
    return pb.Node(
        node_id=node.node_id,
        drive=node.drive,
        path=node.path,
        size=node.size,
        content_type=node.content_type,
        crc32c=node.crc32c,
        sha256=node.sha256,
        metadata=node.metadata,
        version=node.version,
        created_at=timestamp(node.created_at),
        updated_at=timestamp(node.updated_at),
    )


def processing_message(found: Processing) -> pb.Processing:
    failed = found.state is ProcessingState.FAILED
    return pb.Processing(
        state=pb.PROCESSING_STATE_FAILED if failed else pb.PROCESSING_STATE_PROCESSED,
        reason=found.reason,
        detail=found.detail,
        content_type=found.content_type,
        width=found.width,
        height=found.height,
        frames=found.frames,
        damaged=found.damaged,
        exif_json=json.dumps(dict(found.exif), ensure_ascii=False),
        location_json="" if found.location is None else json.dumps(dict(found.location)),
        thumbnails=[thumbnail_message(one) for one in found.thumbnails],
        processed_at=timestamp(found.processed_at),
    )


def thumbnail_message(thumbnail: Thumbnail) -> pb.Thumbnail:
    return pb.Thumbnail(
        size=thumbnail.size,
        width=thumbnail.width,
        height=thumbnail.height,
        content_type=thumbnail.content_type,
        size_bytes=thumbnail.size_bytes,
        crc32c=thumbnail.crc32c,
    )


def timestamp(seconds: float) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(datetime.fromtimestamp(seconds, UTC))
    return message


def whole_seconds(duration: Duration) -> int:
    """Whole seconds of a duration; what is below one second is dropped."""
    return int(duration.seconds)
