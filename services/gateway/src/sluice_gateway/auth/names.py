"""Emails, passwords and user ids: their forms."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import uuid_utils

from sluice_core.errors import InvalidArgument

MAX_EMAIL_BYTES: Final = 254
"""Longest address that mail can be sent to (RFC 5321, 4.5.3.1.3)."""
MIN_PASSWORD_CHARS: Final = 8
MAX_PASSWORD_BYTES: Final = 1024

FIRST_EMAIL: Final = "owner@sluice.localhost"
"""Of the first user of a server on this machine. No mail reaches it (RFC 6761, section 6.3), and
nobody can register it."""

_LABEL: Final = r"[^\W_](?:[^\W_]|-)*"
_EMAIL: Final = re.compile(rf"[^\s@\"(),:;<>\[\]\\]{{1,64}}@{_LABEL}(?:\.{_LABEL})+")
"""Local part, and a domain of letters, digits and hyphens, also of other scripts. Mail decides
what exists; this only refuses what cannot be an address."""


def new_user_id() -> str:
    """Return a user id, which is the id of their tenant too; ids sort by time."""
    return f"usr_{uuid_utils.uuid7().hex}"


def normalize_email(text: str, field: str = "email") -> str:
    """Return the address as it identifies a user: in NFKC and lower case.

    Raise `InvalidArgument` BAD_EMAIL.
    """
    email = unicodedata.normalize("NFKC", text).strip().casefold()
    if (
        len(email.encode("utf-8")) > MAX_EMAIL_BYTES
        or not email.isprintable()
        or not _EMAIL.fullmatch(email)
    ):
        raise InvalidArgument(
            "BAD_EMAIL", "This is no email address; give one such as ann@example.com.", field=field
        )
    return email


def check_password(password: str, field: str = "password") -> bytes:
    """Return the bytes of a password to hash: NFKC (NIST SP 800-63B, 5.1.1.2) in UTF-8.

    Raise `InvalidArgument` BAD_PASSWORD for one that is too short or too long. There are no rules
    of composition, which make passwords easier to guess.
    """
    normalized = unicodedata.normalize("NFKC", password)
    encoded = normalized.encode("utf-8")
    if len(normalized) < MIN_PASSWORD_CHARS or len(encoded) > MAX_PASSWORD_BYTES:
        raise InvalidArgument(
            "BAD_PASSWORD",
            f"A password has at least {MIN_PASSWORD_CHARS} characters and at most "
            f"{MAX_PASSWORD_BYTES} bytes; choose another.",
            field=field,
        )
    return encoded
