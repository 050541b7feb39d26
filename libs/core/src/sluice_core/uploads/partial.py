"""Partial uploads: files that exist only while they are put together to another one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CONCAT_KEY: Final = "tus-upload-concat"
"""Entry of the metadata of an upload by tus, and of its node: its `Upload-Concat`."""
PARTIAL: Final = "partial"
PARTIAL_FOLDER: Final = ".tus"
"""Folder of the nodes of partial uploads, which exist while they are put together."""
ABANDONED_SECONDS: Final = 24 * 3600.0
"""Age of such a node that no request still uses: its client gave up before the whole was made."""


def is_partial(metadata: Mapping[str, str]) -> bool:
    """Return whether this is the metadata of a partial upload, which is processed by nobody."""
    return metadata.get(CONCAT_KEY) == PARTIAL
