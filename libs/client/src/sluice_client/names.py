"""Text that goes into requests: what cannot be sent is refused here, with the field at fault.

Paths of nodes are in NFC (docs/protocol.md), so that two spellings of one name are one place. They
are normalized before anything compares them, cuts them or derives a key from them: what the server
answers is in NFC as well.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sluice_client.errors import InvalidArgument


def is_utf8(text: str) -> bool:
    """Whether the text can be sent: a file name that is not UTF-8 holds unpaired surrogates."""
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
    """Return a copy. Raise InvalidArgument NOT_UTF8."""
    return {
        check_text(key, "metadata"): check_text(value, "metadata")
        for key, value in metadata.items()
    }


def normalize_path(path: str, field: str = "path") -> str:
    """Return a node's path, or the beginning of one, in NFC. Raise InvalidArgument NOT_UTF8."""
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
