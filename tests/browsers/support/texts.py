"""Texts of the pages, from the same file that the pages read."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[3]
LANGUAGES: Final = ROOT / "web" / "src" / "lib" / "i18n" / "locales"
_PLACE: Final = re.compile(r"\{\{\s*(\w+)(?:\s*,[^}]*)?\s*\}\}")


def text(key: str, language: str = "en", /, **values: object) -> str:
    """Return a text by its dotted key with its places filled in.

    With `count` the plural form is chosen as English and German do.
    """
    found = _entry(key, language)
    if "count" in values:
        form = "one" if values["count"] == 1 else "other"
        found = _entry(f"{key}_{form}", language) or found
    assert isinstance(found, str), f"there is no text {key!r} in {language}.json"
    return _PLACE.sub(lambda place: str(values[place[1]]), found)


def pattern(key: str, language: str = "en", /) -> re.Pattern[str]:
    """Return a pattern of the whole text in which its places match anything."""
    found = _entry(key, language) or _entry(f"{key}_other", language)
    assert isinstance(found, str), f"there is no text {key!r} in {language}.json"
    parts = re.split(r"\{\{[^}]*\}\}", found)
    return re.compile("^" + ".*?".join(map(re.escape, parts)) + "$")


def keys(language: str) -> set[str]:
    """Return the dotted keys of all texts."""
    return set(_flat(_texts(language)))


def _entry(key: str, language: str) -> str | None:
    return _flat(_texts(language)).get(key)


def _flat(texts: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in texts.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


@cache
def _texts(language: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((LANGUAGES / f"{language}.json").read_text("utf-8"))
    return found
