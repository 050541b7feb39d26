"""Content negotiation of the panel (RFC 9110, 12): gzip, and who asks for a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_QUALITY: Final = re.compile(r"[01](?:\.[0-9]{0,3})?")


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether `Accept-Encoding` allows gzip, by its name or by `*`."""
    weights = dict(_weights(accept_encoding))
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return weight > 0


def asks_for_page(accept: str) -> bool:
    """Return whether `Accept` names HTML. `*/*` does not: scripts and programs send it."""
    return dict(_weights(accept)).get("text/html", 0.0) > 0


def _weights(field: str) -> Iterator[tuple[str, float]]:
    """Yield the names of a field in lower case with their weights; 0 for one that is not valid."""
    for item in field.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                text = value.strip()
                weight = float(text) if _QUALITY.fullmatch(text) else 0.0
        if name:
            yield name, weight
