"""Conversion between wire messages and the repository's values."""

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
"""Most paths of one update mask, repeated ones included; a policy has far fewer fields."""


def locator_of(
    request: pb.GetNodeRequest
    | pb.DeleteNodeRequest
    | pb.ReadNodeRequest
    | pb.GetDownloadUrlRequest,
) -> NodeLocator:
    """Return the node that a request names.

    Raise `InvalidArgument` NODE_REQUIRED when it names none.
    """
    match request.WhichOneof("node"):
        case "node_id":
            return NodeById(request.node_id)
        case "location":
            return NodeByPath(request.location.drive, request.location.path)
        case _:
            raise InvalidArgument(
                "NODE_REQUIRED", "No node is given; set node_id or location.", field="node"
            )


def policy_of(message: pb.DrivePolicy) -> DrivePolicy:
    """Return the policy of a message.

    Raise `InvalidArgument` BAD_POLICY for an integrity that this release does not know.
    """
    integrity = _INTEGRITY_BY_NUMBER.get(message.integrity)
    if integrity is None:
        raise InvalidArgument(
            "BAD_POLICY",
            "This server does not know the requested integrity; choose another or upgrade it.",
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
    """Return the fields that a mask names.

    Raise `InvalidArgument` BAD_UPDATE_MASK for too many paths.
    """
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


def processing_message(processing: Processing) -> pb.Processing:
    failed = processing.state is ProcessingState.FAILED
    location = processing.location
    return pb.Processing(
        state=pb.PROCESSING_STATE_FAILED if failed else pb.PROCESSING_STATE_PROCESSED,
        reason=processing.reason,
        detail=processing.detail,
        content_type=processing.content_type,
        width=processing.width,
        height=processing.height,
        frames=processing.frames,
        damaged=processing.damaged,
        exif_json=json.dumps(dict(processing.exif), ensure_ascii=False),
        location_json="" if location is None else json.dumps(dict(location)),
        thumbnails=[thumbnail_message(thumbnail) for thumbnail in processing.thumbnails],
        processed_at=timestamp(processing.processed_at),
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
    """Return the whole seconds of a duration, rounded down."""
    return int(duration.seconds)
