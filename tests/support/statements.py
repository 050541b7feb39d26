"""Counts of the statements that a catalogue sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event


@contextmanager
def recording_statements() -> Iterator[list[str]]:
    """Yield a list of the statements that any engine of this process executes in the block.

    One with many sets of parameters counts once.
    """
    sent: list[str] = []

    def record(_: object, __: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", record)
