"""Objects as folders of part files: the steps on disk and the order that makes them safe.

    ROOT/<bucket>/tmp/                              nobody's after a crash
    ROOT/<bucket>/<shard>/<object>/manifest.json    there is an object, made of one generation
    ROOT/<bucket>/<shard>/<object>/<generation>/    part files, <number>-<etag>
                                  …/open.json       an object in parts, still open

Whatever is written is first whole in `tmp` (same file system) and then renamed; the rename of
the manifest is the one moment at which an object appears or changes. Whatever is removed is
renamed into `tmp` first. So a crash leaves the old or the new object, and beside it at most

- files in `tmp`: removed when the bucket is next entered by a new process,
- a generation that the manifest does not name and that is not open, or `open.json` in the one
  that it names: removed by the next put, complete, abort or delete of the same key.

Everything here blocks. One process at a time may use ROOT.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluice_backends.disk import (
    make_directories,
    remove_if_empty,
    sync_directory,
    unlink_quietly,
    write_whole,
)
from sluice_backends.files.manifest import Manifest, attributes_from_json, attributes_to_json
from sluice_core.errors import InvalidArgument
from sluice_core.objects.parts import (
    Part,
    bucket_not_found,
    choose_parts,
    multipart_not_found,
    object_damaged,
    object_not_found,
)
from sluice_core.ports.object_store import ObjectAttributes, PartTag
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import ObjectRef

_TMP = "tmp"
_MANIFEST = "manifest.json"
_OPEN = "open.json"

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_GENERATION = re.compile(r"[0-9a-f]{32}")
_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_READABLE_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an object lies, and the lock of its shard."""

    ref: ObjectRef
    tmp: Path
    folder: Path
    lock: threading.Lock


class ObjectFolders:
    """The tree below ROOT. Steps on one object exclude each other; reading excludes nothing."""

    def __init__(self, root: Path, *, fsync: bool, min_part_bytes: int) -> None:
        self._root = root
        self._fsync = fsync
        self._min_part_bytes = min_part_bytes
        self._locks = [threading.Lock() for _ in range(256)]
        self._entered: set[str] = set()
        self._entering = threading.Lock()
        self._readers = _Readers()

    # -- buckets

    def make_bucket(self, bucket: str) -> None:
        """Make the bucket if need be, and see that files can be written to it."""
        make_directories(self._root / _check_bucket(bucket) / _TMP, fsync=self._fsync)
        probe = self.new_temporary(bucket)
        write_whole(probe, b"", fsync=False)
        unlink_quietly(probe)

    def new_temporary(self, bucket: str) -> Path:
        """A free path in the bucket's `tmp`. Raises `NotFound` BUCKET_NOT_FOUND."""
        return self._enter(bucket) / _TMP / new_token()

    def _enter(self, bucket: str) -> Path:
        path = self._root / _check_bucket(bucket)
        if bucket in self._entered:
            return path
        with self._entering:
            if bucket not in self._entered:
                if not (path / _TMP).is_dir():
                    raise bucket_not_found(bucket)
                # Nothing of this process is in there yet: it is what a killed one left.
                for leftover in (path / _TMP).iterdir():
                    remove_tree(leftover)
                self._entered.add(bucket)
        return path

    def _place(self, ref: ObjectRef) -> _Place:
        """The key's hash names the folder, so no key can lead out of the tree or be too long; its
        end is appended for people."""
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
        self, ref: ObjectRef, attributes: ObjectAttributes, source: Path, part: Part
    ) -> Manifest:
        """Make an object of one file, which is moved here."""
        place = self._place(ref)
        with _new_generation(place) as generation:
            source.rename(generation / part.name)
            manifest = Manifest.of(ref, generation.name, attributes, [part])
            with place.lock:
                self._settle(generation, place.folder / generation.name)
                graves = self._commit(place, manifest)
        self._bury(graves)
        return manifest

    def manifest(self, ref: ObjectRef) -> Manifest | None:
        return _read_manifest(self._place(ref).folder)

    def delete(self, ref: ObjectRef) -> None:
        """Remove the object; objects in parts under the same key stay."""
        place = self._place(ref)
        with place.lock:
            manifest = _read_manifest(place.folder)
            if manifest is not None:
                # In this order: a generation that is still marked open would survive as one.
                unlink_quietly(place.folder / manifest.generation / _OPEN)
                unlink_quietly(place.folder / _MANIFEST)
            graves = self._retire_all_but(place, "")
            self._tidy(place)
        self._bury(graves)

    # -- objects in parts

    def open_multipart(self, ref: ObjectRef, attributes: ObjectAttributes) -> str:
        place = self._place(ref)
        with _new_generation(place) as generation:
            write_whole(generation / _OPEN, attributes_to_json(attributes), fsync=self._fsync)
            with place.lock:
                self._settle(generation, place.folder / generation.name)
            return generation.name

    def check_open(self, ref: ObjectRef, multipart_id: str) -> None:
        """Raise `NotFound` MULTIPART_NOT_FOUND unless it is open."""
        self._open_folder(self._place(ref), multipart_id)

    def add_part(self, ref: ObjectRef, multipart_id: str, source: Path, part: Part) -> None:
        """Move a finished file in as a part, in place of an earlier one of its number."""
        place = self._place(ref)
        with place.lock:
            folder = self._open_folder(place, multipart_id)
            source.rename(folder / part.name)
            for name in os.listdir(folder):
                if name.startswith(f"{part.number:05d}-") and name != part.name:
                    unlink_quietly(folder / name)
            self._sync(folder)

    def parts(self, ref: ObjectRef, multipart_id: str) -> list[Part]:
        """The parts in order; of two with one number (a crash came between storing the second
        and removing the first) the one that was written later."""
        place = self._place(ref)
        with place.lock:
            folder = self._open_folder(place, multipart_id)
            written = sorted(_stored(folder), key=lambda stored: stored[1])
        return sorted({part.number: part for part, _ in written}.values(), key=_number)

    def open_multiparts(self, ref: ObjectRef) -> list[str]:
        """The generations under this key that are open."""
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
        """Make the object of the listed parts."""
        place = self._place(ref)
        with place.lock:
            folder = self._open_folder(place, multipart_id)
            stored = {(part.number, part.etag): part for part, _ in _stored(folder)}
            chosen = choose_parts(listed, stored, self._min_part_bytes)
            attributes = attributes_from_json((folder / _OPEN).read_bytes())
            manifest = Manifest.of(ref, multipart_id, attributes, chosen)
            graves = self._commit(place, manifest)
        self._bury(graves)
        return manifest

    def abort(self, ref: ObjectRef, multipart_id: str) -> None:
        """Remove an object in parts, or what its completion left over."""
        if _GENERATION.fullmatch(multipart_id) is None:
            return
        place = self._place(ref)
        graves: list[Path] = []
        with place.lock:
            manifest = _read_manifest(place.folder)
            folder = place.folder / multipart_id
            if manifest is not None and manifest.generation == multipart_id:
                self._remove_unlisted(folder, manifest)
            elif folder.is_dir():
                graves.append(self._retire(place, folder))
                self._tidy(place)
        self._bury(graves)

    # -- reading

    @contextmanager
    def reading(self, ref: ObjectRef) -> Iterator[tuple[Manifest, int]]:
        """The object's manifest and a descriptor of the folder of its parts.

        The parts stay until the reader leaves, even when the object is replaced or deleted.
        """
        place = self._place(ref)
        with place.lock:  # between reading the manifest and pinning what it names
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
            grave = self._readers.leave(manifest.generation)
            if grave is not None:
                remove_tree(grave)

    # -- steps; the place's lock is held

    def _open_folder(self, place: _Place, multipart_id: str) -> Path:
        if _GENERATION.fullmatch(multipart_id) is None:
            raise multipart_not_found()
        folder = place.folder / multipart_id
        if not (folder / _OPEN).exists():
            raise multipart_not_found()
        manifest = _read_manifest(place.folder)
        if manifest is not None and manifest.generation == multipart_id:
            raise multipart_not_found()  # completed; a crash left the mark
        return folder

    def _settle(self, source: Path, target: Path) -> None:
        """Move a generation that is whole to its place."""
        make_directories(target.parent, fsync=self._fsync)
        self._sync(source)
        source.rename(target)
        self._sync(target.parent)

    def _commit(self, place: _Place, manifest: Manifest) -> list[Path]:
        """Make the manifest the object's; returns what it made superfluous."""
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
        grave = place.tmp / folder.name
        folder.rename(grave)
        return grave

    def _tidy(self, place: _Place) -> None:
        if place.folder.is_dir() and not remove_if_empty(place.folder):
            self._sync(place.folder)

    def _bury(self, graves: Sequence[Path]) -> None:
        """Remove retired generations, or leave that to the last of their readers."""
        for grave in graves:
            if not self._readers.hand_over(grave):
                remove_tree(grave)

    def _sync(self, folder: Path) -> None:
        if self._fsync:
            sync_directory(folder)


class _Readers:
    """Who reads which generation, and which of those are to be removed after the last reader."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading: Counter[str] = Counter()
        self._graves: dict[str, Path] = {}

    def enter(self, generation: str) -> None:
        with self._lock:
            self._reading[generation] += 1

    def leave(self, generation: str) -> Path | None:
        """What the last reader has to remove."""
        with self._lock:
            self._reading[generation] -= 1
            if self._reading[generation] > 0:
                return None
            del self._reading[generation]
            return self._graves.pop(generation, None)

    def hand_over(self, grave: Path) -> bool:
        """Leave a removal to the readers; False when there are none."""
        with self._lock:
            if grave.name not in self._reading:
                return False
            self._graves[grave.name] = grave
            return True


@contextmanager
def _new_generation(place: _Place) -> Iterator[Path]:
    """A folder in `tmp`; unless it is moved to its place, it goes again."""
    generation = place.tmp / new_token()
    generation.mkdir(mode=0o700)
    try:
        yield generation
    finally:
        remove_tree(generation)


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with all in it; it may be gone already."""
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
    """The parts whose files are whole, with the time of their last write."""
    with os.scandir(folder) as entries:
        for entry in entries:
            part = Part.parse(entry.name)
            if part is not None and (stat := entry.stat()).st_size == part.size:
                yield part, stat.st_mtime_ns


def _number(part: Part) -> int:
    return part.number
