"""Dead letters of a machine of its own: one file each. Blocks; called inside threads.

    ROOT/dead-letters/<event id>.json    given up
    ROOT/replay/<event id>.json          to be tried again: the running server looks here

Moving a file from one folder to the other is all that a replay is, so that a command may do it
while the server runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from sluice_common.events.cloudevents import from_line, to_line, to_rfc3339
from sluice_common.events.port import EventRecord
from sluice_processor.attempts import GivenUp

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LogLetter:
    """An event that was given up, and why."""

    record: EventRecord
    cause: GivenUp
    time: str


class LogLetters:
    """The folder of dead letters, and that of what is to be tried again."""

    def __init__(self, root: Path) -> None:
        self._dead = root / "dead-letters"
        self._replay = root / "replay"

    def bury(self, record: EventRecord, cause: GivenUp, now: float) -> None:
        """Write a letter; one for the same event is replaced."""
        self._dead.mkdir(mode=0o700, parents=True, exist_ok=True)
        letter = {
            "reason": cause.reason,
            "detail": cause.detail,
            "attempts": cause.attempts,
            "time": to_rfc3339(now),
            "event": json.loads(to_line(record)),
        }
        draft = self._dead / f"{record.event_id}.new"
        draft.write_text(json.dumps(letter), encoding="utf-8")
        draft.replace(self._dead / f"{record.event_id}.json")

    def letters(self) -> list[LogLetter]:
        """Those in the folder, by the time at which they were given up."""
        found = (_read(path) for path in self._dead.glob("*.json"))
        return sorted((one for one in found if one is not None), key=lambda letter: letter.time)

    def replay(self, event_id: str) -> bool:
        """Have one tried again; whether there was such a letter."""
        self._replay.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._path(self._dead, event_id).replace(self._path(self._replay, event_id))
        except FileNotFoundError:
            return False
        return True

    def drop(self, event_id: str) -> bool:
        """Forget one; whether there was such a letter."""
        try:
            self._path(self._dead, event_id).unlink()
        except FileNotFoundError:
            return False
        return True

    def to_replay(self) -> list[EventRecord]:
        """What somebody wants to be tried again."""
        found = (_read(path) for path in sorted(self._replay.glob("*.json")))
        return [letter.record for letter in found if letter is not None]

    def replayed(self, event_id: str) -> None:
        """It was tried; if it failed again, there is a new letter already."""
        self._path(self._replay, event_id).unlink(missing_ok=True)

    @staticmethod
    def _path(folder: Path, event_id: str) -> Path:
        return folder / f"{event_id}.json"


def _read(path: Path) -> LogLetter | None:
    """None for one that is gone meanwhile, and for a file that is no letter: a power cut or an
    editor may have damaged it. Such a one is put aside, and nobody's way is blocked by it."""
    try:
        letter: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cause = GivenUp(letter["reason"], letter["detail"], letter["attempts"])
        record = from_line(json.dumps(letter["event"]).encode())
        return LogLetter(record, cause, letter["time"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        aside = path.with_suffix(".damaged")
        _log.error("dead_letter_is_damaged", file=str(aside))
        path.replace(aside)
        return None
