"""Refusal of weak and well-known secrets outside development."""

from __future__ import annotations

import re
from typing import Final

MIN_SECRET_CHARACTERS: Final = 8
_MIN_DISTINCT: Final = 4
_DECORATION: Final = re.compile(r"^[\W\d_]+|[\W\d_]+$")

KNOWN_SECRETS: Final = frozenset(
    {
        # Defaults of servers, and of this repository's compose file.
        "minioadmin",
        "rustfsadmin",
        "postgres",
        "mariadb",
        "rabbitmq",
        "sluice-mysql",
        "sluice-s3-secret",
        "wjalrxutnfemi/k7mdeng/bpxrficyexamplekey",  # the example of AWS's documentation
        # Placeholders.
        "change-it",
        "change-me",
        "change_me",
        "changeit",
        "changeme",
        "default",
        "example",
        "insecure",
        "mypassword",
        "my-secret",
        "mysecret",
        "placeholder",
        "replace-me",
        "replaceme",
        "secretkey",
        "supersecret",
        "test-secret",
        "testpassword",
        "testsecret",
        "topsecret",
        "yourpassword",
        # What people choose first.
        "abcdefgh",
        "admin",
        "administrator",
        "asdfghjkl",
        "baseball",
        "computer",
        "football",
        "iloveyou",
        "letmein",
        "p@ssw0rd",
        "p@ssword",
        "passw0rd",
        "passwd",
        "password",
        "princess",
        "qwerty",
        "qwertyui",
        "qwertyuiop",
        "secret",
        "sluice",
        "sunshine",
        "superman",
        "trustno1",
        "welcome",
    }
)
"""Compared without case, and without digits and punctuation at both ends."""
_DIGITS: Final = "01234567890123456789"


def weakness(secret: str, user: str = "") -> str:
    """Return why a secret is weak, as the end of a sentence about it; empty if it is not.

    Args:
        user: the user that it belongs to, if known.
    """
    if not secret:
        return "is empty"
    if len(secret) < MIN_SECRET_CHARACTERS:
        return f"has fewer than {MIN_SECRET_CHARACTERS} characters"
    folded = secret.casefold()
    if user and folded == user.casefold():
        return "equals the user name"
    if folded in KNOWN_SECRETS or _DECORATION.sub("", folded) in KNOWN_SECRETS:
        return "is a well-known one"
    if len(set(secret)) < _MIN_DISTINCT:
        return "repeats few characters"
    if folded in _DIGITS or folded[::-1] in _DIGITS:
        return "is a sequence of digits"
    return ""
