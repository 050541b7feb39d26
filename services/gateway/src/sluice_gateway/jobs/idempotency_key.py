"""The header `Idempotency-Key` in the documented API."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from sluice_core.ports.idempotency import MAX_IDEMPOTENCY_KEY_CHARACTERS
from sluice_gateway.jobs.idempotency import HEADER

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias=HEADER,
        description="1 to 255 printable ASCII characters. A repeat with the same key and body gets"
        " the first answer, for 24 hours; with another body it is 409.",
        json_schema_extra={
            "minLength": 1,
            "maxLength": MAX_IDEMPOTENCY_KEY_CHARACTERS,
            "pattern": "^[!-~]([ -~]*[!-~])?$",
        },
    ),
]
"""Documents the header; `RepeatableRequests` reads it."""
