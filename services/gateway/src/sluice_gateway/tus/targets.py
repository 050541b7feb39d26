"""Where the file of an upload goes: drive, path and type from its metadata. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sluice_core.photos.ids import check_job_id
from sluice_core.photos.model import Photo
from sluice_core.photos.names import check_filename, photo_path
from sluice_core.uploads.partial import CONCAT_KEY, PARTIAL_FOLDER
from sluice_gateway.tus import refusals
from sluice_gateway.tus.headers import Concat

UNNAMED: Final = "upload"


@dataclass(frozen=True, slots=True)
class Target:
    """The node that an upload becomes."""

    drive: str
    path: str
    content_type: str
    attributes: Mapping[str, str]


def target_of(
    metadata: Mapping[str, str], concat: Concat | None, unique: str, default_drive: str
) -> Target:
    """Return the target of a new upload.

    With `path` it replaces what is there. Otherwise the file gets a folder of its own: two photos
    of a phone may have one name.

    Args:
        unique: name of this folder, for no other upload.

    Raise `InvalidArgument` BAD_TUS_HEADER, BAD_FILENAME, BAD_JOB_ID.
    """
    if CONCAT_KEY in metadata:
        raise refusals.bad_header("Upload-Metadata", f"{CONCAT_KEY} is reserved, leave it out")
    filename, job_id = metadata.get("filename") or "", metadata.get("jobId") or ""
    if filename:
        filename = check_filename(filename)
    if job_id:
        check_job_id(job_id)
    content_type = metadata.get("filetype") or ""
    attributes = dict(metadata)
    if concat is not None:
        attributes[CONCAT_KEY] = str(concat)
    if concat is not None and not concat.is_final:
        path, content_type = f"{PARTIAL_FOLDER}/{unique}", "application/octet-stream"
    elif metadata.get("path"):
        path = metadata["path"]
    else:
        name = f"{unique}/{filename or UNNAMED}"
        path = photo_path(job_id, name) if job_id else name
    drive = metadata.get("drive") or default_drive
    return Target(drive, path, content_type, attributes)


def target_of_photo(photo: Photo, metadata: Mapping[str, str], concat: Concat | None) -> Target:
    """Return the target of the upload of a photo: what its job said.

    Raise `InvalidArgument` BAD_TUS_HEADER.
    """
    named = {**metadata, "filename": photo.filename, "jobId": photo.job_id}
    checked = target_of(named, concat, photo.photo_id, photo.drive)
    return Target(photo.drive, photo.path, photo.content_type, checked.attributes)


def request_id_of(kind: str, *facts: str) -> str:
    """Return the request id that makes a creation repeatable."""
    digest = hashlib.sha256("\0".join((kind, *facts)).encode("utf-8")).hexdigest()
    return f"tus-{kind}-{digest}"


def unique_of(request_id: str) -> str:
    """Return the folder of a repeatable creation, the same for each repetition."""
    return hashlib.sha256(request_id.encode("ascii")).hexdigest()[:16]
