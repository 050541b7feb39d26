"""Output of the command: results on standard output, messages for people on standard error."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from sluice_client.cli.text import printable

if TYPE_CHECKING:
    from rich.console import Console

STANDARD_OUTPUT = "standard output"
"""Name of the stream in error texts."""


def standard_output() -> TextIO:
    """Return standard output. Raise OSError when it was closed before the command began."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "is closed", STANDARD_OUTPUT)
    return sys.stdout


class Output:
    """Results and messages.

    With `json_lines`, a result is one JSON object on one line; otherwise a line of text.
    """

    def __init__(self, *, json_lines: bool) -> None:
        self.json_lines = json_lines

    @cached_property
    def console(self) -> Console:
        """The terminal. Made for the first message: most commands have none."""
        from rich.console import Console

        # Names are text, never markup: [bold] and :key: have no meaning in them.
        return Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)

    @property
    def interactive(self) -> bool:
        """Whether standard error is a terminal."""
        return self.console.is_terminal

    def result(self, record: Mapping[str, Any], text: str) -> None:
        """Write one result in the chosen form."""
        line = json.dumps(record, default=_json_value) if self.json_lines else printable(text)
        out = standard_output()
        out.write(line + "\n")
        if self.json_lines:
            # Flush: a program may read the output as it is written.
            out.flush()

    def record(self, record: Mapping[str, Any]) -> None:
        """Write a result for programs only; people get a summary."""
        if self.json_lines:
            self.result(record, "")

    def message(self, text: str) -> None:
        """Write a line for people, above any progress bars."""
        from rich.text import Text

        self.console.print(Text(printable(text)))

    def error(self, text: str) -> None:
        self.message(f"sluice: {text}")

    def live(self, display: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
        """Return the display on a terminal, else a context that does nothing."""
        return display if self.interactive else nullcontext()


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"no JSON form for {type(value).__name__}")
