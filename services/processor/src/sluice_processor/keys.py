"""Names of objects (rule 14). Pure."""

from __future__ import annotations

import hashlib
from typing import Final

from sluice_common.catalogue.port import Node
from sluice_common.uploads.model import ObjectRef
from sluice_processor.model import ThumbnailFormat

THUMBNAILS: Final = "thumbnails"
_DIGEST_CHARACTERS: Final = 16


def thumbnail_ref(
    node: Node, key_prefix: str, etag: str, size: int, kind: ThumbnailFormat
) -> ObjectRef:
    """Where the thumbnail of one content of a node lies: always the same place for the same
    content and size, and never that of another content's."""
    digest = hashlib.sha256(etag.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    name = f"{size}.{kind.extension}"
    return ObjectRef(node.object.bucket, f"{key_prefix}{THUMBNAILS}/{node.node_id}/{digest}/{name}")
