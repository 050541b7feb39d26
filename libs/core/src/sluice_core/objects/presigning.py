"""Rules of presigned URLs that hold in every store. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from sluice_core.errors import InvalidArgument
from sluice_core.uploads.names import check_content_type

DOWNLOAD_TYPE: Final = "application/octet-stream"
"""Type of every download, whatever type an uploader claimed: nothing that a browser renders."""

_METADATA_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_METADATA_VALUE: Final = re.compile(r"[\x20-\x7e]*")


def attachment(filename: str) -> str:
    """Return a Content-Disposition (RFC 6266) that forces a download under any UTF-8 name."""
    return f"attachment; filename*=UTF-8''{quote(filename, safe='')}"


def check_signed_attributes(content_type: str, metadata: Mapping[str, str]) -> None:
    """Raise `InvalidArgument` for attributes that cannot be signed as headers.

    BAD_CONTENT_TYPE for a malformed type, BAD_METADATA for names that are no tokens in lower case
    (RFC 9110, 5.6.2) and for values that are not printable ASCII: a line break in a value would
    end the header, and the rest would be signed as another one.
    """
    check_content_type(content_type)
    for name, value in metadata.items():
        if not _METADATA_NAME.fullmatch(name) or not _METADATA_VALUE.fullmatch(value):
            raise InvalidArgument(
                "BAD_METADATA",
                "Metadata of a presigned URL has names in lower case and values in printable "
                "ASCII; encode the value.",
                field="metadata",
            )
