"""Text of a batch packet, built from statements that are compiled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Delete, Insert
from sqlalchemy.engine.interfaces import Dialect

from sluice_backends.sql.dialect import Step

_STATEMENTS: Final = 64
"""Cache capacity; more than the number of statements, which are module constants."""


def packet_of(dialect: Dialect, steps: Sequence[Step], escape: Callable[[Any], str]) -> str:
    """Return the text of the steps in order, followed by COMMIT.

    Args:
        escape: converts a value to an SQL literal, as the driver does.
    """
    texts = [_prepared(dialect, one.statement, tuple(one.values))(one, escape) for one in steps]
    return ";".join([*texts, "COMMIT"])


class _Prepared:
    """A compiled statement without its values."""

    def __init__(self, dialect: Dialect, statement: Insert | Delete, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        self._text = compiled.string
        self._parameters = tuple(
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        )

    def __call__(self, step: Step, escape: Callable[[Any], str]) -> str:
        values = step.values
        literals = [
            escape(values[name] if convert is None else convert(values[name]))
            for name, convert in self._parameters
        ]
        if step.if_changed:
            # MySQL has no conditional statement outside of procedures; MariaDB alone has one.
            literals[0] = f"IF(ROW_COUNT() > 0, {literals[0]}, NULL)"
        return self._text % tuple(literals)


@lru_cache(_STATEMENTS)
def _prepared(dialect: Dialect, statement: Insert | Delete, names: tuple[str, ...]) -> _Prepared:
    return _Prepared(dialect, statement, names)
