"""Where the command writes: results on standard output, everything for people's eyes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

from rich.console import Console

from sluice_client.cli.text import printable


class Output:
    """Results and messages.

    With `json_lines`, a result is one JSON object on one line; otherwise a line of text.
    """

    def __init__(self, *, json_lines: bool) -> None:
        self.json_lines = json_lines
        self.console = Console(stderr=True, soft_wrap=True, highlight=False)

    @property
    def interactive(self) -> bool:
        """Whether someone looks at standard error."""
        return self.console.is_terminal

    def result(self, record: Mapping[str, Any], text: str) -> None:
        """One result, in the chosen form."""
        line = json.dumps(record, default=_json_value) if self.json_lines else printable(text)
        sys.stdout.write(line + "\n")
        if self.json_lines:
            # A program may be reading along.
            sys.stdout.flush()

    def record(self, record: Mapping[str, Any]) -> None:
        """A result that only programs want; people get a summary."""
        if self.json_lines:
            self.result(record, "")

    def message(self, text: str) -> None:
        """A line for people, above any progress bars."""
        self.console.print(printable(text), markup=False)

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
