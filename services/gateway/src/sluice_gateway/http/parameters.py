"""Parameters of queries, as strict as bodies: one way to write a number or a time."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final

from pydantic import BeforeValidator

_WHOLE: Final = re.compile("[0-9]{1,9}", re.ASCII)
_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})?)?", re.ASCII
)


def _whole(value: object) -> object:
    """Refuse what pydantic reads as a number and few clients mean: `1_0`, `5.0`, ` 5`, `+5`."""
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError("is a whole number in decimal digits")
    return value


def _moment(value: object) -> object:
    """Refuse what pydantic reads as a time and is none, such as a number of seconds since 1970."""
    if isinstance(value, str) and not _TIME.fullmatch(value):
        raise ValueError("is a time such as 2026-05-31T12:00:00Z")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
"""Number of a query, at least 0."""
Rfc3339 = Annotated[datetime, BeforeValidator(_moment)]
"""Time of a query (RFC 3339). Without a zone it is UTC; a date alone begins that day."""
