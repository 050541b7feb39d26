"""Dead letters and postponed retries of a single machine, one file each. Blocking."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from sluice_core.concurrency.attempts import FinalFailure
from sluice_core.events.cloudevents import from_line, to_line, to_rfc3339
from sluice_core.ports.event_publisher import EventRecord

_log = structlog.get_logger(__name__)
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class LogDeadLetter:
    """A dead letter: an event and the reason of its failure."""

    record: EventRecord
    cause: FinalFailure
    time: str


@dataclass(frozen=True, slots=True)
class PostponedRetry:
    """A postponed retry of an event, the `number`-th (from 1)."""

    record: EventRecord
    number: int
    due: float
    """Seconds since the epoch."""


class LogDeadLetters:
    """The state directory of dead letters and retries.

        ROOT/dead-letters/<event id>.json    failed for good
        ROOT/replay/<event id>.json          to be replayed: the running server polls it
        ROOT/later/<event id>.json           ran out of time: retried when it is due

    A replay only moves a file between directories, so a command can do it while the server runs.
    """

    def __init__(self, root: Path) -> None:
        self._dead = root / "dead-letters"
        self._replay = root / "replay"
        self._later = root / "later"

    def write(self, record: EventRecord, cause: FinalFailure, now: float) -> None:
        """Write a dead letter; replace one for the same event."""
        letter = {
            "reason": cause.reason,
            "detail": cause.detail,
            "attempts": cause.attempts,
            "time": to_rfc3339(now),
            "event": json.loads(to_line(record)),
        }
        _write(self._dead, record.event_id, letter)

    def postpone(self, later: PostponedRetry) -> None:
        """Write a postponed retry; replace one for the same event."""
        note = {
            "number": later.number,
            "due": later.due,
            "event": json.loads(to_line(later.record)),
        }
        _write(self._later, later.record.event_id, note)

    def postponed(self) -> list[PostponedRetry]:
        """Return the postponed retries, earliest due time first."""
        found = (_read(path, _postponed_retry) for path in self._later.glob("*.json"))
        return sorted((one for one in found if one is not None), key=lambda later: later.due)

    def discard_postponed(self, event_id: str) -> None:
        """Delete the postponed retry of an event, if any."""
        self._path(self._later, event_id).unlink(missing_ok=True)

    def letters(self) -> list[LogDeadLetter]:
        """Return the dead letters, oldest first."""
        found = (_read(path, _letter) for path in self._dead.glob("*.json"))
        return sorted((one for one in found if one is not None), key=lambda letter: letter.time)

    def replay(self, event_id: str) -> bool:
        """Schedule a replay; return whether the letter exists."""
        self._replay.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._path(self._dead, event_id).replace(self._path(self._replay, event_id))
        except FileNotFoundError:
            return False
        return True

    def drop(self, event_id: str) -> bool:
        """Delete a letter; return whether it existed."""
        try:
            self._path(self._dead, event_id).unlink()
        except FileNotFoundError:
            return False
        return True

    def to_replay(self) -> list[EventRecord]:
        """Return the events to be replayed."""
        found = (_read(path, _letter) for path in sorted(self._replay.glob("*.json")))
        return [letter.record for letter in found if letter is not None]

    def discard_replay(self, event_id: str) -> None:
        """Delete the replay of an event; a failed one has already written a new dead letter."""
        self._path(self._replay, event_id).unlink(missing_ok=True)

    @staticmethod
    def _path(folder: Path, event_id: str) -> Path:
        return folder / f"{event_id}.json"


def _write(folder: Path, name: str, content: dict[str, Any]) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f"{name}.new"
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(folder / f"{name}.json")


def _letter(content: dict[str, Any]) -> LogDeadLetter:
    cause = FinalFailure(content["reason"], content["detail"], content["attempts"])
    return LogDeadLetter(_event(content), cause, content["time"])


def _postponed_retry(content: dict[str, Any]) -> PostponedRetry:
    return PostponedRetry(_event(content), int(content["number"]), float(content["due"]))


def _event(content: dict[str, Any]) -> EventRecord:
    return from_line(json.dumps(content["event"]).encode())


def _read(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> Parsed | None:
    """Read and parse a file; None if it was deleted meanwhile or is damaged.

    A power cut or an editor may damage a file. It is renamed, so that it does not block others.
    """
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        aside = path.with_suffix(".damaged")
        _log.error("dead_letter.read_failed", file=str(aside))
        path.replace(aside)
        return None
