"""`sluice upload`: concurrent, resumable upload of files and folders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sluice_client.cli import exits
from sluice_client.cli.commands.finished_files import FinishedFiles
from sluice_client.cli.commands.scan import Found, LeftOut, LocalFile, scan
from sluice_client.cli.display import Display, FileBar
from sluice_client.cli.output import Output
from sluice_client.cli.text import count_text, encodable, size_text
from sluice_client.client import Client
from sluice_client.errors import NotFound, SluiceError
from sluice_client.model import UploadResult
from sluice_client.names import normalize_path
from sluice_client.progress import Progress
from sluice_client.tasks import in_thread, single_failure
from sluice_client.uploads.journal import prune, state_dir
from sluice_client.uploads.resume_record import NO_JOURNAL, not_kept_text

_SCAN_BATCH = 256
_QUEUE_FILES = 1024
_PERMANENT_REASONS = frozenset({"DRIVE_NOT_FOUND", "BAD_DRIVE_NAME", "BAD_TARGET"})
"""Refusals of one file that apply to every other file as well."""


_NOTICE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """Options of the command."""

    paths: Sequence[str]
    drive: str
    prefix: str = ""
    parallel: int = 4
    content_type: str | None = None
    if_absent: bool = False
    sha256: bool = False
    chunk_size: int | None = None
    name: str | None = None

    def identity(self) -> list[str]:
        """Return what two command lines have in common if they are the same run."""
        prefix = normalize_path(self.prefix)
        name = normalize_path(self.name or "")
        return [self.drive, prefix, name, str(self.content_type), *self.paths]


@dataclass(slots=True)
class _Tally:
    uploaded: int = 0
    uploaded_bytes: int = 0
    sent_bytes: int = 0
    resumed: int = 0
    skipped_bytes: int = 0
    there_already: int = 0
    links: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)


class UploadRun:
    """One run of the command."""

    def __init__(self, client: Client, out: Output, options: UploadOptions) -> None:
        self._client = client
        self._out = out
        self._options = options
        self._tally = _Tally()
        self._display = Display(out.console, "Uploading")
        self._noticed: dict[str, float] = {}
        """Time of the last notice, by text."""
        self._queue: asyncio.Queue[LocalFile | None] = asyncio.Queue(_QUEUE_FILES)

    async def run(self) -> int:
        """Upload everything. Return the exit code.

        Raise the errors that end the whole run: an unreachable server, a refused token.
        """
        with await in_thread(self._finished_files) as finished:
            try:
                with self._display, single_failure():
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._scan())
                        for _ in range(self._options.parallel):
                            group.create_task(self._work(finished))
            finally:
                self._summary()
            if self._tally.failed:
                return exits.SOME_FAILED
            finished.forget()
        return exits.OK

    def _finished_files(self) -> FinishedFiles:
        """Return the files that an earlier run finished. Blocking."""
        directory = None
        try:
            directory = state_dir(self._client.options.state_dir)
            prune(directory)
        except OSError as error:
            self._not_kept(error)
        command = [self._client.target, *self._options.identity()]
        return FinishedFiles(directory, command, self._not_kept)

    def _not_kept(self, error: OSError) -> None:
        self._notice(not_kept_text(error))

    def _notice(self, text: str, source: str = "") -> None:
        """Show a notice at most once a minute, whichever files it concerns."""
        now = time.monotonic()
        kind = "journal" if NO_JOURNAL in text else text
        if now - self._noticed.get(kind, -_NOTICE_SECONDS) >= _NOTICE_SECONDS:
            self._noticed[kind] = now
            self._out.message(f"{source}: {text}" if source else f"sluice: {text}")

    async def _scan(self) -> None:
        """Feed the workers. A thread scans the folder, one batch ahead of them."""
        entries = scan(self._options.paths, self._options.prefix, self._options.name)
        while batch := await in_thread(_next_batch, entries):
            for one in batch:
                if isinstance(one, LeftOut):
                    self._left_out(one)
                else:
                    self._display.add_file(one.size)
                    await self._queue.put(one)
        for _ in range(self._options.parallel):
            await self._queue.put(None)

    async def _work(self, finished: FinishedFiles) -> None:
        while (file := await self._queue.get()) is not None:
            with self._display.bar(file.node_path, file.size) as bar:
                await self._one(file, finished, bar)
            self._display.file_done()

    async def _one(self, file: LocalFile, finished: FinishedFiles, bar: FileBar) -> None:
        try:
            if await self._is_there(file, finished):
                bar.advance_to(file.size or 0)
                return
            result = await self._upload(file, bar)
        except SluiceError as error:
            if exits.exit_code(error) != exits.SOME_FAILED or error.reason in _PERMANENT_REASONS:
                raise
            self._failed(file.source, error.reason, exits.explain(error))
        except OSError as error:
            self._failed(file.source, "UNREADABLE", exits.explain(error))
        else:
            bar.advance_to(result.size)
            self._uploaded(file, result)
            finished.add(file, result.source_identity, result.node_id)

    async def _is_there(self, file: LocalFile, finished: FinishedFiles) -> bool:
        """Return whether an interrupted run uploaded the file and its node still exists."""
        node_id = finished.node_id(file)
        if node_id is None:
            return False
        try:
            node = await self._client.stat(drive=self._options.drive, path=file.node_path)
        except NotFound:
            return False
        if node.node_id != node_id or node.size != file.size:
            return False
        self._tally.there_already += 1
        self._tally.skipped_bytes += node.size
        self._out.record(
            {
                "status": "completed",
                "source": encodable(file.source),
                "drive": node.drive,
                "path": node.path,
                "node_id": node.node_id,
                "upload_id": "",
                "size": node.size,
                "crc32c": f"{node.crc32c:08x}",
                "sha256": node.sha256,
                "sent_bytes": 0,
                "skipped_bytes": node.size,
                "restarts": 0,
                "seconds": 0.0,
            }
        )
        return True

    async def _upload(self, file: LocalFile, bar: FileBar) -> UploadResult:
        def on_progress(progress: Progress) -> None:
            bar.update(progress)
            if progress.notice:
                source = "" if NO_JOURNAL in progress.notice else file.source
                self._notice(progress.notice, source)

        return await self._client.upload(
            file.source,
            drive=self._options.drive,
            path=file.node_path,
            content_type=self._options.content_type,
            if_absent=self._options.if_absent,
            sha256=self._options.sha256,
            chunk_size=self._options.chunk_size,
            on_progress=on_progress,
        )

    # -- reports

    def _uploaded(self, file: LocalFile, result: UploadResult) -> None:
        tally = self._tally
        tally.uploaded += 1
        tally.uploaded_bytes += result.size
        tally.sent_bytes += result.sent_bytes
        tally.skipped_bytes += result.skipped_bytes
        tally.resumed += result.skipped_bytes > 0
        self._out.record(
            {
                "status": "completed",
                "source": encodable(file.source),
                "drive": result.drive,
                "path": result.path,
                "node_id": result.node_id,
                "upload_id": result.upload_id,
                "size": result.size,
                "crc32c": f"{result.crc32c:08x}",
                "sha256": result.sha256,
                "sent_bytes": result.sent_bytes,
                "skipped_bytes": result.skipped_bytes,
                "restarts": result.restarts,
                "seconds": round(result.seconds, 6),
            }
        )

    def _failed(self, source: str, reason: str, message: str) -> None:
        self._tally.failed += 1
        self._out.message(f"failed   {source}: {message}")
        self._record_left_out("failed", source, reason, message)

    def _left_out(self, entry: LeftOut) -> None:
        if entry.failed:
            self._failed(entry.source, entry.reason, f"{entry.message} [{entry.reason}]")
            return
        self._tally.links += 1
        self._out.message(f"skipped  {entry.source}: {entry.message}")
        self._record_left_out("skipped", entry.source, entry.reason, entry.message)

    def _record_left_out(self, status: str, source: str, reason: str, message: str) -> None:
        self._out.record(
            {"status": status, "source": encodable(source), "reason": reason, "message": message}
        )

    def _summary(self) -> None:
        tally = self._tally
        seconds = max(time.monotonic() - tally.started, 1e-6)
        parts = [
            f"{count_text(tally.uploaded, 'file')} uploaded, {size_text(tally.uploaded_bytes)} in"
            f" {seconds:.1f} s ({size_text(tally.sent_bytes / seconds)}/s)"
        ]
        if tally.skipped_bytes or tally.there_already:
            resumed = count_text(tally.resumed, "file")
            parts.append(
                f"{size_text(tally.skipped_bytes)} skipped because an earlier run had sent them"
                f" ({resumed} resumed, {tally.there_already:,} done before)"
            )
        if tally.links:
            parts.append(f"{tally.links:,} links or special files left out")
        if tally.failed:
            parts.append(f"{tally.failed:,} failed; the same command tries them again")
        self._out.message("; ".join(parts))


def _next_batch(entries: Iterator[Found]) -> list[Found]:
    return list(islice(entries, _SCAN_BATCH))
