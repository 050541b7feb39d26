"""Output of the operators' commands: lines for people, or one JSON object per line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from sluice_common.process.lifecycle import output_closed
from sluice_common.telemetry.redaction import redact
from sluice_common.telemetry.terminal import printable

Fact = str | int | float | bool | None
Facts = Mapping[str, Fact]


class Report:
    """Writer of the results on standard output, and of progress on standard error."""

    def __init__(self, *, json_lines: bool) -> None:
        self._json_lines = json_lines

    def result(self, kind: str, facts: Facts, text: str = "") -> None:
        """Write one result. End the command when nobody reads it any more.

        Args:
            text: for people; by default the facts.
        """
        if self._json_lines:
            # In ASCII: JSON alone leaves C1 controls and DEL as they are, which terminals obey.
            line = json.dumps({"kind": kind, **facts})
        else:
            line = printable(text or _as_text(kind, facts))
        try:
            sys.stdout.write(redact(line) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            sys.exit(output_closed())

    def progress(self, text: str) -> None:
        sys.stderr.write(redact(printable(text)) + "\n")
        sys.stderr.flush()


def moment(seconds: float | None) -> str | None:
    """Return a time as text: in UTC, to the millisecond."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def checksum(crc32c: int | None) -> str | None:
    return None if crc32c is None else f"{crc32c:08x}"


def _as_text(kind: str, facts: Facts) -> str:
    shown = [f"{name}={_shown(value)}" for name, value in facts.items() if value not in (None, "")]
    return f"{kind:<12} {' '.join(shown)}".rstrip()


def _shown(value: Fact) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text
