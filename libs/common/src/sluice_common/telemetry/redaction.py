"""Removal of this process's secrets from its output, in every form that they take there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

from sluice_common.settings import MASKED

MIN_HIDDEN_CHARACTERS: Final = 8
"""Shorter secrets are left: they may be words of the log, and are refused outside development."""


class Redactor:
    """Replaces secrets in texts. Empty at first; `hide` replaces what it looks for."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None

    def hide(self, secrets: Iterable[str]) -> None:
        """Hide these values from now on, and no others."""
        forms = {form for secret in secrets for form in _forms(secret)}
        # The longest first: a secret may be a part of another.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASKED, text)


redact: Final = Redactor()
"""The redactor of this process."""


def _forms(secret: str) -> set[str]:
    """Return the secret as it is, in URLs, in Python's notation, and all of these in JSON.

    A log line in JSON may quote the `repr` of a request that contains the secret.
    """
    if len(secret) < MIN_HIDDEN_CHARACTERS:
        return set()
    forms = {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        repr(secret.encode())[2:-1],
    }
    in_json = {
        json.dumps(form, ensure_ascii=each)[1:-1] for form in forms for each in (True, False)
    }
    return forms | in_json
