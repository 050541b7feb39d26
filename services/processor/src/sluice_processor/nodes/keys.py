"""Object keys of nodes and thumbnails (rule 14). Pure."""

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
    """A parsed object key of a node: `{key prefix}{tenant}/{drive}/{node id}`."""

    ref: ObjectRef
    head: str
    """Key prefix and tenant; only the drive knows where the tenant begins."""
    drive: str
    node_id: str

    @property
    def tenants(self) -> list[str]:
        """All tenants that the key may belong to."""
        longest = min(len(self.head), _MAX_TENANT_CHARACTERS)
        return [self.head[-length:] for length in range(1, longest + 1)]

    def is_in(self, drive: Drive, default_bucket: str) -> bool:
        """Return whether this drive stores its objects here: keys are untrusted input."""
        bucket = drive.bucket or default_bucket
        return (bucket, drive.key_prefix + drive.tenant, drive.name) == (
            self.ref.bucket,
            self.head,
            self.drive,
        )


def place_of(ref: ObjectRef) -> Place | None:
    """Parse the key of an object; None if it cannot be the object of a node."""
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
    """Return whether a key is that of a thumbnail."""
    return _THUMBNAIL.fullmatch(key) is not None


def thumbnail_ref(
    node: Node, key_prefix: str, etag: str, size: int, kind: ThumbnailFormat
) -> ObjectRef:
    """Return the object of a thumbnail: unique and stable per node, content and size."""
    digest = hashlib.sha256(etag.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    name = f"{size}.{kind.extension}"
    return ObjectRef(node.object.bucket, f"{key_prefix}{THUMBNAILS}/{node.node_id}/{digest}/{name}")
