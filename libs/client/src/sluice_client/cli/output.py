"""Where the command writes: results on standard output, everything for people's eyes on stderr."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from sluice_client.cli.text import printable

STANDARD_OUTPUT = "standard output"
"""Its name in error texts."""


def standard_output() -> TextIO:
    """Return it. Raise OSError when it was closed before the command began."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "is closed", STANDARD_OUTPUT)
    return sys.stdout


class Output:
    """Results and messages.

    With `json_lines`, a result is one JSON object on one line; otherwise a line of text.
    """

    def __init__(self, *, json_lines: bool) -> None:
        self.json_lines = json_lines
        # Names are text, never markup: neither [bold] nor :key: means anything in them.
        self.console = Console(
            stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False
        )

    @property
    def interactive(self) -> bool:
        """Whether someone looks at standard error."""
        return self.console.is_terminal

    def result(self, record: Mapping[str, Any], text: str) -> None:
        """One result, in the chosen form."""
        line = json.dumps(record, default=_json_value) if self.json_lines else printable(text)
        out = standard_output()
        out.write(line + "\n")
        if self.json_lines:
            # A program may be reading along.
            out.flush()

    def record(self, record: Mapping[str, Any]) -> None:
        """A result that only programs want; people get a summary."""
        if self.json_lines:
            self.result(record, "")

    def message(self, text: str) -> None:
        """A line for people, above any progress bars."""
        self.console.print(Text(printable(text)))

    def error(self, text: str) -> None:
        self.message(f"sluice: {text}")

    def live(self, display: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
        """The display while someone looks, else nothing."""
        return display if self.interactive else nullcontext()


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"no JSON form for {type(value).__name__}")
