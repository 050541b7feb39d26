"""`sluice get` of one node: replaces a file atomically, or writes into a pipe or device."""

from __future__ import annotations

import errno
import os
from contextlib import aclosing
from pathlib import Path, PurePosixPath

from sluice_client.cli import exits
from sluice_client.cli.commands.safe_names import is_safe_segment
from sluice_client.cli.display import Display
from sluice_client.cli.drive_path import DrivePath
from sluice_client.cli.output import STANDARD_OUTPUT, Output, standard_output
from sluice_client.cli.text import encodable, size_text
from sluice_client.client import Client
from sluice_client.downloads.destinations import Sink, pour_into_descriptor
from sluice_client.errors import InvalidArgument
from sluice_client.model import DownloadResult
from sluice_client.tasks import in_thread


async def get_one(
    client: Client,
    out: Output,
    place: DrivePath,
    destination: str | None,
    thumbnail_size: int = 0,
) -> int:
    """Write one node, or its thumbnail, to a file, into a folder, or to standard output (`-`)."""
    if destination == "-":
        await _to_standard_output(client, place, thumbnail_size)
        return exits.OK
    name = PurePosixPath(place.path).name
    if thumbnail_size:
        name = await _thumbnail_name(client, place, thumbnail_size)
    target = await in_thread(_target, destination, name)
    with Display(out.console, "Downloading") as display, display.bar(str(place), None) as bar:
        result = await client.download(
            target,
            drive=place.drive,
            path=place.path,
            thumbnail_size=thumbnail_size,
            on_progress=bar.update,
        )
    out.record(download_record(result, target))
    if not out.json_lines:
        out.message(f"{target}: {size_text(result.size)} in {result.seconds:.1f} s, verified")
    return exits.OK


async def _thumbnail_name(client: Client, place: DrivePath, size: int) -> str:
    """Return e.g. `holiday-256.webp` for holiday.jpg: the type is the thumbnail's, not
    the photo's.
    """
    node = await client.stat(drive=place.drive, path=place.path)
    thumbnails = () if node.processing is None else node.processing.thumbnails
    kinds = [one.content_type for one in thumbnails if one.size == size]
    # The node has no such thumbnail; the request for it reports why.
    kind = kinds[0].rpartition("/")[2] if kinds else ""
    suffix = {"jpeg": "jpg"}.get(kind, kind)
    if not (suffix.isascii() and suffix.isalnum()):
        suffix = "image"
    return f"{PurePosixPath(place.path).stem}-{size}.{suffix}"


async def _to_standard_output(client: Client, place: DrivePath, thumbnail_size: int) -> None:
    blocks = client.read(drive=place.drive, path=place.path, thumbnail_size=thumbnail_size)

    async def pour(sink: Sink) -> None:
        async with aclosing(blocks):
            async for block in blocks:
                await sink(block)

    await pour_into_descriptor(standard_output().fileno(), pour, STANDARD_OUTPUT)


def _target(destination: str | None, name: str) -> Path:
    """Return the file that a node is written to. Create the folder of `folder/`. Blocking."""
    if destination is None:
        destination = name
    if destination.endswith("/"):
        make_folder(Path(destination))
    if os.path.isdir(destination):
        return local_path(Path(destination), name)
    return Path(destination)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raise NotADirectoryError when another kind of file exists.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(
            errno.ENOTDIR, "exists and is not a folder; name another destination", str(folder)
        ) from None


def local_path(destination: Path, relative: str) -> Path:
    """Return the local path of a node below the destination. Create its folders. Blocking.

    The server chooses node names, so no name may lead out of the destination: no absolute path, no
    "..", no symbolic link on the way, and no device. Raise InvalidArgument UNSAFE_PATH.
    """
    segments = relative.split("/")
    if not all(map(is_safe_segment, segments)):
        raise _unsafe(relative)
    root = destination.resolve()
    folder = root
    for segment in segments[:-1]:
        folder = folder / segment
        if folder.is_symlink():
            raise _unsafe(relative)
        folder.mkdir(exist_ok=True)
    return folder / segments[-1]


def _unsafe(relative: str) -> InvalidArgument:
    return InvalidArgument(
        "UNSAFE_PATH", f"{relative!r} would be written outside of the destination; left out"
    )


def download_record(result: DownloadResult, target: Path) -> dict[str, object]:
    return {
        "status": "completed",
        "drive": result.node.drive,
        "path": result.node.path,
        "node_id": result.node.node_id,
        "destination": encodable(str(target)),
        "size": result.size,
        "crc32c": f"{result.node.crc32c:08x}",
        "seconds": round(result.seconds, 6),
    }
