"""Crash-safe directory layout of objects as folders of part files. Everything blocks."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sluice_backends.disk import (
    make_directories,
    remove_if_empty,
    sync_directory,
    unlink_quietly,
    write_whole,
)
from sluice_backends.files.manifest import Manifest, attributes_from_json, attributes_to_json
from sluice_core.errors import DataLoss, InvalidArgument
from sluice_core.objects.parts import (
    Part,
    bucket_not_found,
    choose_parts,
    multipart_not_found,
    object_damaged,
    object_exists,
    object_not_found,
)
from sluice_core.ports.object_store import ObjectAttributes, PartTag
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import ObjectRef

_TMP = "tmp"
_MANIFEST = "manifest.json"
_OPEN = "open.json"

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SHARD = re.compile(r"[0-9a-f]{2}")
_GENERATION = re.compile(r"[0-9a-f]{32}")
_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_READABLE_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class _Place:
    """Location of an object, and the lock of its shard."""

    ref: ObjectRef
    tmp: Path
    folder: Path
    lock: threading.Lock


@dataclass(slots=True)
class ManifestPage:
    """Page of a bucket. `next_after` is empty at the end."""

    manifests: list[Manifest] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """Folders whose manifest is damaged."""
    next_after: str = ""


# Size: the layout of one tree, whose steps share its order of renames and syncs.
class ObjectFolders:
    """Tree below ROOT, used by one process at a time.

        ROOT/<bucket>/tmp/                              temporary files
        ROOT/<bucket>/<shard>/<object>/manifest.json    the object, made of one generation
        ROOT/<bucket>/<shard>/<object>/<generation>/    part files, <number>-<etag>
                                      …/open.json       an open multipart

    Everything is written completely in `tmp` (same file system) and then renamed. The rename of
    the manifest is the moment at which an object appears or changes. Everything removed is first
    renamed into `tmp`. A crash therefore leaves the old or the new object, and beside it at most

    - files in `tmp`: removed when a new process first uses the bucket,
    - a generation that the manifest does not name and that is not open, or `open.json` in the one
      that it names: removed by the next put, complete, abort or delete of the same key.

    Steps on one object exclude each other; reads exclude nothing.
    """

    def __init__(
        self, root: Path, *, fsync: bool, min_part_bytes: int, beside_owner: bool = False
    ) -> None:
        self._root = root
        self._beside_owner = beside_owner
        self._fsync = fsync
        self._min_part_bytes = min_part_bytes
        self._locks = [threading.Lock() for _ in range(256)]
        self._entered: set[str] = set()
        self._entering = threading.Lock()
        self._readers = _Readers()

    # -- buckets

    def make_bucket(self, bucket: str) -> None:
        """Create the bucket if missing, and check that it is writable."""
        if self._beside_owner:
            self._enter(bucket)
            return
        make_directories(self._root / _check_bucket(bucket) / _TMP, fsync=self._fsync)
        probe = self.new_temporary(bucket)
        write_whole(probe, b"", fsync=False)
        unlink_quietly(probe)

    def new_temporary(self, bucket: str) -> Path:
        """Return a free path in the bucket's `tmp`; raise `NotFound` BUCKET_NOT_FOUND."""
        return self._enter(bucket) / _TMP / new_token()

    def _enter(self, bucket: str) -> Path:
        path = self._root / _check_bucket(bucket)
        if bucket in self._entered:
            return path
        with self._entering:
            if bucket not in self._entered:
                if not (path / _TMP).is_dir():
                    raise bucket_not_found(bucket)
                # Everything there was left by a killed process: this one has not written yet.
                if not self._beside_owner:
                    for leftover in (path / _TMP).iterdir():
                        remove_tree(leftover)
                self._entered.add(bucket)
        return path

    def _place(self, ref: ObjectRef) -> _Place:
        """Return the place of an object.

        The key's hash names the folder, so that no key can escape the tree or be too long. The end
        of the key is appended for readability.
        """
        bucket = self._enter(ref.bucket)
        digest = hashlib.sha256(ref.key.encode()).hexdigest()
        readable = _NOT_IN_FILE_NAMES.sub("_", ref.key[-_READABLE_CHARACTERS:])
        return _Place(
            ref=ref,
            tmp=bucket / _TMP,
            folder=bucket / digest[:2] / f"{digest[2:]}-{readable}",
            lock=self._locks[int(digest[:2], 16)],
        )

    # -- whole objects

    def put(
        self,
        ref: ObjectRef,
        attributes: ObjectAttributes,
        source: Path,
        part: Part,
        *,
        replace: bool = True,
    ) -> Manifest:
        """Create an object from one file, which is moved into the tree.

        Args:
            replace: replace an existing object. Otherwise return it if it has equal bytes, and
                raise `AlreadyExists` OBJECT_EXISTS if it has not.
        """
        place = self._place(ref)
        with _new_generation(place) as generation:
            source.rename(generation / part.name)
            manifest = Manifest.of(ref, generation.name, attributes, [part])
            with place.lock:
                existing = None if replace else _read_manifest(place.folder)
                if existing is not None:
                    if (existing.size, existing.crc32c) != (manifest.size, manifest.crc32c):
                        raise object_exists()
                    return existing
                self._publish(generation, place.folder / generation.name)
                retired = self._commit(place, manifest)
        self._remove_retired(retired)
        return manifest

    def manifest(self, ref: ObjectRef) -> Manifest | None:
        return _read_manifest(self._place(ref).folder)

    def list_manifests(self, bucket: str, prefix: str, limit: int, after: str) -> ManifestPage:
        """Return objects whose keys have the prefix, in the order of their folders.

        At most `limit` folders are read, and at most one shard is listed at a time. `after` is the
        folder at which the page before ended.
        """
        root = self._enter(bucket)
        found = ManifestPage()
        read, last = 0, after
        for shard in sorted(name for name in os.listdir(root) if _SHARD.fullmatch(name)):
            if shard < after[:2]:
                continue
            for name in sorted(os.listdir(root / shard)):
                place = f"{shard}/{name}"
                if place <= after:
                    continue
                if read == limit:
                    found.next_after = last
                    return found
                read += 1
                last = place
                try:
                    manifest = _read_manifest(root / shard / name)
                except DataLoss:
                    found.unreadable.append(place)
                    continue
                if manifest is not None and manifest.ref.key.startswith(prefix):
                    found.manifests.append(manifest)
        return found

    def delete(self, ref: ObjectRef) -> None:
        """Remove the object; open multiparts under the same key stay."""
        place = self._place(ref)
        with place.lock:
            manifest = _read_manifest(place.folder)
            if manifest is not None:
                # In this order: a generation still marked open would survive as a multipart.
                unlink_quietly(place.folder / manifest.generation / _OPEN)
                unlink_quietly(place.folder / _MANIFEST)
            retired = self._retire_all_but(place, "")
            self._remove_folder_if_empty(place)
        self._remove_retired(retired)

    # -- multiparts

    def open_multipart(self, ref: ObjectRef, attributes: ObjectAttributes) -> str:
        place = self._place(ref)
        with _new_generation(place) as generation:
            write_whole(generation / _OPEN, attributes_to_json(attributes), fsync=self._fsync)
            with place.lock:
                self._publish(generation, place.folder / generation.name)
            return generation.name

    def check_open(self, ref: ObjectRef, multipart_id: str) -> None:
        """Raise `NotFound` MULTIPART_NOT_FOUND unless the multipart is open."""
        self._open_folder(self._place(ref), multipart_id)

    def add_part(self, ref: ObjectRef, multipart_id: str, source: Path, part: Part) -> None:
        """Move a finished file into the multipart as a part, replacing one of the same number."""
        place = self._place(ref)
        with place.lock:
            folder = self._open_folder(place, multipart_id)
            source.rename(folder / part.name)
            for name in os.listdir(folder):
                if name.startswith(f"{part.number:05d}-") and name != part.name:
                    unlink_quietly(folder / name)
            self._sync(folder)

    def parts(self, ref: ObjectRef, multipart_id: str) -> list[Part]:
        """Return the parts in order.

        Of two with one number (after a crash between storing the second and removing the first)
        return the one written later.
        """
        place = self._place(ref)
        with place.lock:
            folder = self._open_folder(place, multipart_id)
            written = sorted(_stored(folder), key=lambda stored: stored[1])
        return sorted({part.number: part for part, _ in written}.values(), key=_number)

    def open_multiparts(self, ref: ObjectRef) -> list[str]:
        """Return the open generations under this key."""
        place = self._place(ref)
        with place.lock:
            if not place.folder.is_dir():
                return []
            manifest = _read_manifest(place.folder)
            return sorted(
                folder.name
                for folder in place.folder.iterdir()
                if (folder / _OPEN).exists()
                and (manifest is None or folder.name != manifest.generation)
            )

    def complete(self, ref: ObjectRef, multipart_id: str, listed: Sequence[PartTag]) -> Manifest:
        """Create the object from the listed parts."""
        place = self._place(ref)
        with place.lock:
            folder = self._open_folder(place, multipart_id)
            stored = {(part.number, part.etag): part for part, _ in _stored(folder)}
            chosen = choose_parts(listed, stored, self._min_part_bytes)
            attributes = attributes_from_json((folder / _OPEN).read_bytes())
            manifest = Manifest.of(ref, multipart_id, attributes, chosen)
            retired = self._commit(place, manifest)
        self._remove_retired(retired)
        return manifest

    def abort(self, ref: ObjectRef, multipart_id: str) -> None:
        """Remove a multipart, or the leftovers of its completion."""
        if _GENERATION.fullmatch(multipart_id) is None:
            return
        place = self._place(ref)
        retired: list[Path] = []
        with place.lock:
            manifest = _read_manifest(place.folder)
            folder = place.folder / multipart_id
            if manifest is not None and manifest.generation == multipart_id:
                self._remove_unlisted(folder, manifest)
            elif folder.is_dir():
                retired.append(self._retire(place, folder))
                self._remove_folder_if_empty(place)
        self._remove_retired(retired)

    # -- reading

    @contextmanager
    def reading(self, ref: ObjectRef) -> Iterator[tuple[Manifest, int]]:
        """Yield the object's manifest and a descriptor of the folder of its parts.

        The parts stay until the reader exits, even when the object is replaced or deleted.
        """
        place = self._place(ref)
        with place.lock:  # reads the manifest and pins its generation in one step
            manifest = _read_manifest(place.folder)
            if manifest is None:
                raise object_not_found()
            try:
                fd = os.open(place.folder / manifest.generation, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError as error:
                raise object_damaged() from error
            self._readers.enter(manifest.generation)
        try:
            yield manifest, fd
        finally:
            os.close(fd)
            retired = self._readers.leave(manifest.generation)
            if retired is not None:
                remove_tree(retired)

    # -- steps; the place's lock is held

    def _open_folder(self, place: _Place, multipart_id: str) -> Path:
        check_multipart_id(multipart_id)
        folder = place.folder / multipart_id
        if not (folder / _OPEN).exists():
            raise multipart_not_found()
        manifest = _read_manifest(place.folder)
        if manifest is not None and manifest.generation == multipart_id:
            raise multipart_not_found()  # completed; a crash left `open.json`
        return folder

    def _publish(self, source: Path, target: Path) -> None:
        """Move a complete generation to its place."""
        make_directories(target.parent, fsync=self._fsync)
        self._sync(source)
        source.rename(target)
        self._sync(target.parent)

    def _commit(self, place: _Place, manifest: Manifest) -> list[Path]:
        """Replace the object's manifest; return the retired generations."""
        temporary = place.tmp / new_token()
        try:
            write_whole(temporary, manifest.to_json(), fsync=self._fsync)
            temporary.rename(place.folder / _MANIFEST)
        finally:
            unlink_quietly(temporary)
        self._sync(place.folder)
        self._remove_unlisted(place.folder / manifest.generation, manifest)
        return self._retire_all_but(place, manifest.generation)

    def _remove_unlisted(self, folder: Path, manifest: Manifest) -> None:
        listed = {part.name for part in manifest.parts}
        for name in os.listdir(folder):
            if name not in listed:
                unlink_quietly(folder / name)

    def _retire_all_but(self, place: _Place, generation: str) -> list[Path]:
        """Move away every generation but this one and those that are open."""
        if not place.folder.is_dir():
            return []
        return [
            self._retire(place, folder)
            for folder in place.folder.iterdir()
            if folder.name not in (generation, _MANIFEST) and not (folder / _OPEN).exists()
        ]

    def _retire(self, place: _Place, folder: Path) -> Path:
        retired = place.tmp / folder.name
        folder.rename(retired)
        return retired

    def _remove_folder_if_empty(self, place: _Place) -> None:
        if place.folder.is_dir() and not remove_if_empty(place.folder):
            self._sync(place.folder)

    def _remove_retired(self, generations: Sequence[Path]) -> None:
        """Remove retired generations, or defer that to their last reader."""
        for generation in generations:
            if not self._readers.defer_removal(generation):
                remove_tree(generation)

    def _sync(self, folder: Path) -> None:
        if self._fsync:
            sync_directory(folder)


class _Readers:
    """Reader counts of generations, and those to be removed by their last reader."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading: Counter[str] = Counter()
        self._retired: dict[str, Path] = {}

    def enter(self, generation: str) -> None:
        with self._lock:
            self._reading[generation] += 1

    def leave(self, generation: str) -> Path | None:
        """Unpin the generation; return the folder that the last reader has to remove."""
        with self._lock:
            self._reading[generation] -= 1
            if self._reading[generation] > 0:
                return None
            del self._reading[generation]
            return self._retired.pop(generation, None)

    def defer_removal(self, retired: Path) -> bool:
        """Defer a removal to the last reader; False when there are no readers."""
        with self._lock:
            if retired.name not in self._reading:
                return False
            self._retired[retired.name] = retired
            return True


@contextmanager
def _new_generation(place: _Place) -> Iterator[Path]:
    """Yield a new folder in `tmp`; remove it at the end unless it was moved to its place."""
    generation = place.tmp / new_token()
    generation.mkdir(mode=0o700)
    try:
        yield generation
    finally:
        remove_tree(generation)


def check_multipart_id(multipart_id: str) -> None:
    """Raise `NotFound` MULTIPART_NOT_FOUND for an id that the store never issues."""
    if _GENERATION.fullmatch(multipart_id) is None:
        raise multipart_not_found()


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with its contents, if it exists."""
    try:
        shutil.rmtree(path)
    except NotADirectoryError:
        unlink_quietly(path)
    except FileNotFoundError:
        return


def _check_bucket(bucket: str) -> str:
    if _BUCKET.fullmatch(bucket) is None or bucket.endswith("."):
        raise InvalidArgument(
            "BAD_BUCKET", "A bucket's name has 1 to 63 letters, digits, '.', '_' or '-'."
        )
    return bucket


def _read_manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.from_json((folder / _MANIFEST).read_bytes())
    except FileNotFoundError:
        return None


def _stored(folder: Path) -> Iterator[tuple[Part, int]]:
    """Yield the parts whose files are complete, with the time of their last write."""
    with os.scandir(folder) as entries:
        for entry in entries:
            part = Part.parse(entry.name)
            if part is not None and (stat := entry.stat()).st_size == part.size:
                yield part, stat.st_mtime_ns


def _number(part: Part) -> int:
    return part.number
