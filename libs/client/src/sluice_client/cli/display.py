"""Progress bars on standard error: one for the run, and one for each larger file in transfer."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from sluice_client.cli.text import printable
from sluice_client.model import MIB
from sluice_client.progress import Phase
from sluice_client.progress import Progress as TransferProgress

_OWN_BAR_BYTES = 8 * MIB
"""Smaller files finish too fast for a bar each."""
_NAME_CHARACTERS = 40


class Display:
    """Context manager around the bars. Without a terminal it only counts."""

    def __init__(self, console: Console, verb: str) -> None:
        self._verb = verb
        self._files = 0
        self._found_files = 0
        self._found_bytes = 0
        self._waits: dict[str, str] = {}
        """Reason that each stalled file waits for, by name."""
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._overall = self._bars.add_task(verb, total=None)

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def add_file(self, size: int | None) -> None:
        """Count one more file; `None` while its size is unknown."""
        self._found_files += 1
        self._found_bytes += size or 0
        self._bars.update(self._overall, total=self._found_bytes)
        self._describe()

    def file_done(self) -> None:
        self._files += 1
        self._describe()

    def bar(self, name: str, size: int | None) -> FileBar:
        """Return the bar of one file."""
        task: TaskID | None = None
        if size is None or size >= _OWN_BAR_BYTES:
            task = self._bars.add_task(shortened(name), total=size)
        return FileBar(self, self._bars, self._overall, task, shortened(name))

    def note_wait(self, name: str, what: str) -> None:
        """Set what a file waits for; an empty text when it moves again or is done."""
        if what == self._waits.get(name, ""):
            return
        if what:
            self._waits[name] = what
        else:
            del self._waits[name]
        self._describe()

    def _describe(self) -> None:
        text = self._verb
        if self._found_files:
            text += f" {self._files:,} of {self._found_files:,} files"
        if self._waits:
            text += f" (waiting: {next(reversed(self._waits.values()))})"
        self._bars.update(self._overall, description=text)


class FileBar:
    """Progress of one transfer, on its own bar and on the run's."""

    def __init__(
        self, display: Display, bars: Progress, overall: TaskID, task: TaskID | None, name: str
    ) -> None:
        self._display = display
        self._bars = bars
        self._overall = overall
        self._task = task
        self._name = name
        self._seen = 0

    def __enter__(self) -> FileBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._display.note_wait(self._name, "")
        if self._task is not None:
            self._bars.remove_task(self._task)

    def update(self, progress: TransferProgress) -> None:
        self.advance_to(progress.accepted_bytes)
        what = printable(progress.waiting_for)
        self._display.note_wait(self._name, what)
        if self._task is not None:
            state = "" if progress.phase is Phase.SENDING else f" ({progress.phase})"
            if what:
                state = f" ({progress.phase}: {what})"
            self._bars.update(self._task, description=self._name + state)

    def advance_to(self, size: int) -> None:
        """Set the bytes transferred; fewer than before when the transfer restarted."""
        step, self._seen = size - self._seen, size
        self._bars.advance(self._overall, step)
        if self._task is not None:
            self._bars.update(self._task, completed=size)


def shortened(name: str) -> str:
    """Return the end of a long name; names in one folder share their beginning."""
    text = printable(name)
    if Text(text).cell_len <= _NAME_CHARACTERS:
        return text
    return "…" + text[-_NAME_CHARACTERS + 1 :]
