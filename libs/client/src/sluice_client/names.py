"""Validation and normalization of text in requests."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sluice_client.errors import InvalidArgument


def is_utf8(text: str) -> bool:
    """Return whether the text can be sent: names that are not UTF-8 hold unpaired surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(text: str, field: str) -> str:
    """Return the text. Raise InvalidArgument NOT_UTF8 when it cannot be sent."""
    if not is_utf8(text):
        raise _not_utf8(field)
    return text


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the metadata. Raise InvalidArgument NOT_UTF8."""
    return {
        check_text(key, "metadata"): check_text(value, "metadata")
        for key, value in metadata.items()
    }


def normalize_path(path: str, field: str = "path") -> str:
    """Return a node's path, or the beginning of one, in NFC. Raise InvalidArgument NOT_UTF8.

    Normalize before a path is compared, cut or hashed, so that two spellings of one name are one
    place (docs/protocol.md). The server answers in NFC as well.
    """
    return unicodedata.normalize("NFC", check_text(path, field))


@contextmanager
def request_values() -> Iterator[None]:
    """Raise InvalidArgument for a value that the message built inside cannot hold."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise _not_utf8(None) from error
    except ValueError as error:
        raise InvalidArgument("BAD_VALUE", f"A value cannot be sent: {error}.") from error


def _not_utf8(field: str | None) -> InvalidArgument:
    what = f"The {field.replace('_', ' ')}" if field else "A value"
    return InvalidArgument("NOT_UTF8", f"{what} is not UTF-8; give it as text.", field=field)
