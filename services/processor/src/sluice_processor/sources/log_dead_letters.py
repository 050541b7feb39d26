"""Dead letters of a machine of its own: one file each. Blocks; called inside threads.

    ROOT/dead-letters/<event id>.json    given up
    ROOT/replay/<event id>.json          to be tried again: the running server looks here
    ROOT/later/<event id>.json           ran out of time: tried again by itself when it is due

Moving a file from one folder to the other is all that a replay is, so that a command may do it
while the server runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from sluice_core.events.cloudevents import from_line, to_line, to_rfc3339
from sluice_core.ports.event_publisher import EventRecord
from sluice_processor.sources.attempts import GivenUp

_log = structlog.get_logger(__name__)
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class LogLetter:
    """An event that was given up, and why."""

    record: EventRecord
    cause: GivenUp
    time: str


@dataclass(frozen=True, slots=True)
class LaterTry:
    """An event that is tried again by itself, for the `number`-th time (from 1)."""

    record: EventRecord
    number: int
    due: float
    """Seconds since the epoch."""


class LogLetters:
    """The folder of dead letters, and that of what is to be tried again."""

    def __init__(self, root: Path) -> None:
        self._dead = root / "dead-letters"
        self._replay = root / "replay"
        self._later = root / "later"

    def bury(self, record: EventRecord, cause: GivenUp, now: float) -> None:
        """Write a letter; one for the same event is replaced."""
        letter = {
            "reason": cause.reason,
            "detail": cause.detail,
            "attempts": cause.attempts,
            "time": to_rfc3339(now),
            "event": json.loads(to_line(record)),
        }
        _write(self._dead, record.event_id, letter)

    def postpone(self, later: LaterTry) -> None:
        """Note a later try; one for the same event is replaced."""
        note = {
            "number": later.number,
            "due": later.due,
            "event": json.loads(to_line(later.record)),
        }
        _write(self._later, later.record.event_id, note)

    def postponed(self) -> list[LaterTry]:
        """Later tries, the one that is due first before the others."""
        found = (_read(path, _later_try) for path in self._later.glob("*.json"))
        return sorted((one for one in found if one is not None), key=lambda later: later.due)

    def settled(self, event_id: str) -> None:
        """There is no later try to make any more."""
        self._path(self._later, event_id).unlink(missing_ok=True)

    def letters(self) -> list[LogLetter]:
        """Those in the folder, by the time at which they were given up."""
        found = (_read(path, _letter) for path in self._dead.glob("*.json"))
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
        found = (_read(path, _letter) for path in sorted(self._replay.glob("*.json")))
        return [letter.record for letter in found if letter is not None]

    def replayed(self, event_id: str) -> None:
        """It was tried; if it failed again, there is a new letter already."""
        self._path(self._replay, event_id).unlink(missing_ok=True)

    @staticmethod
    def _path(folder: Path, event_id: str) -> Path:
        return folder / f"{event_id}.json"


def _write(folder: Path, name: str, content: dict[str, Any]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f"{name}.new"
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(folder / f"{name}.json")


def _letter(content: dict[str, Any]) -> LogLetter:
    cause = GivenUp(content["reason"], content["detail"], content["attempts"])
    return LogLetter(_event(content), cause, content["time"])


def _later_try(content: dict[str, Any]) -> LaterTry:
    return LaterTry(_event(content), int(content["number"]), float(content["due"]))


def _event(content: dict[str, Any]) -> EventRecord:
    return from_line(json.dumps(content["event"]).encode())


def _read(path: Path, parse: Callable[[dict[str, Any]], Kept]) -> Kept | None:
    """None for one that is gone meanwhile, and for a file that is no letter: a power cut or an
    editor may have damaged it. Such a one is put aside, and nobody's way is blocked by it."""
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        aside = path.with_suffix(".damaged")
        _log.error("dead_letter_is_damaged", file=str(aside))
        path.replace(aside)
        return None
