"""Names of objects (rule 14). Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from sluice_core.errors import InvalidArgument
from sluice_core.ports.catalogue import Drive, Node
from sluice_core.uploads.model import ObjectRef
from sluice_core.uploads.names import check_drive_name, check_node_id
from sluice_processor.images.model import ThumbnailFormat

THUMBNAILS: Final = "thumbnails"
_DIGEST_CHARACTERS: Final = 16
_EXTENSIONS: Final = "|".join(one.extension for one in ThumbnailFormat)
_THUMBNAIL: Final = re.compile(
    rf".*{THUMBNAILS}/[^/]+/[0-9a-f]{{{_DIGEST_CHARACTERS}}}/[0-9]+\.(?:{_EXTENSIONS})", re.DOTALL
)
_MAX_TENANT_CHARACTERS: Final = 128


@dataclass(frozen=True, slots=True)
class Place:
    """What a key says of the node that it belongs to: `{key prefix}{tenant}/{drive}/{node id}`."""

    ref: ObjectRef
    head: str
    """Key prefix and tenant; where one ends and the other begins, only the drive knows."""
    drive: str
    node_id: str

    @property
    def tenants(self) -> list[str]:
        """Every tenant that the key may be of."""
        longest = min(len(self.head), _MAX_TENANT_CHARACTERS)
        return [self.head[-length:] for length in range(1, longest + 1)]

    def is_in(self, drive: Drive, default_bucket: str) -> bool:
        """Whether this drive keeps its objects here: a key may say anything."""
        bucket = drive.bucket or default_bucket
        return (bucket, drive.key_prefix + drive.tenant, drive.name) == (
            self.ref.bucket,
            self.head,
            self.drive,
        )


def place_of(ref: ObjectRef) -> Place | None:
    """Whose object this is, as far as its key tells; None for one that is no node's."""
    rest, _, node_id = ref.key.rpartition("/")
    head, _, drive = rest.rpartition("/")
    try:
        check_drive_name(drive)
        check_node_id(node_id)
        head.encode()
    except (InvalidArgument, UnicodeEncodeError):
        return None
    return Place(ref, head, drive, node_id) if head else None


def is_thumbnail(key: str) -> bool:
    """Whether this is the key of a thumbnail, ours or another processor's."""
    return _THUMBNAIL.fullmatch(key) is not None


def thumbnail_ref(
    node: Node, key_prefix: str, etag: str, size: int, kind: ThumbnailFormat
) -> ObjectRef:
    """Where the thumbnail of one content of a node lies: always the same place for the same
    content and size, and never that of another content's."""
    digest = hashlib.sha256(etag.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    name = f"{size}.{kind.extension}"
    return ObjectRef(node.object.bucket, f"{key_prefix}{THUMBNAILS}/{node.node_id}/{digest}/{name}")
