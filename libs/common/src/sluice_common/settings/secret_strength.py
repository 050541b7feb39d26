"""Refusal of weak and well-known secrets outside development."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

MIN_SECRET_CHARACTERS: Final = 8
_MIN_DISTINCT_OF_KEY: Final = 8
"""Different bytes of a signing key. One of 32 random hexadecimal digits has fewer once in 10^7."""
_MIN_REST: Final = 8
"""Characters of a signing key beside well-known words, digits and punctuation."""
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
_KNOWN_WORDS: Final = re.compile(
    "|".join(re.escape(word) for word in sorted(KNOWN_SECRETS, key=len, reverse=True))
)
_NOT_LETTERS: Final = re.compile(r"[\W\d_]+")
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


def key_weakness(key: bytes) -> str:
    """Return why a signing key of sufficient length is weak, as `weakness` does.

    Whoever has one token can try keys without the server, so that it takes more than a password.
    """
    if len(set(key)) < _MIN_DISTINCT_OF_KEY:
        return "repeats few characters"
    if _period(key) <= len(key) // 2:
        return "repeats one text"
    steps = [(after - before) % 256 for before, after in pairwise(key)]
    if 2 * max(steps.count(1), steps.count(255)) > len(steps):
        return "is a sequence"
    text = key.decode("latin-1").casefold()
    rest = _NOT_LETTERS.sub("", _KNOWN_WORDS.sub("", text))
    if len(rest) < _MIN_REST and _KNOWN_WORDS.search(text):
        return "consists of well-known ones"
    return ""


def _period(key: bytes) -> int:
    """Return the length of the shortest text whose repetition begins with the key."""
    return next(size for size in range(1, len(key) + 1) if key[size:] == key[:-size])
