"""A script's text, put together from the definitions that it makes use of and no others.

Redis runs the whole text of a script on every call. Whatever is defined and not used costs time of
the one thread that everybody shares; a step that carries every fragment pays more for that than for
its commands. So fragments (`lua/ledger/`) are taken apart into their definitions, and a step gets
those that it mentions, those that these mention, and so on.

What a definition needs is read off its text and stated nowhere else. A fragment consists of
comments and of definitions that begin in the first column: `local name = …`, `module.name = …`,
`local function f`, `function module.f`. A step is any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_DEFINES = re.compile(r"(?:local )?(?:function (\w+(?:\.\w+)?)\(|(\w+(?:\.\w+)?) =)")
_GOES_ON = (" ", "end", "}")

_SILENT = re.compile(r"--.*|'[^'\n]*'")
"""Comments and texts: a name in them is none."""

_MENTIONS = re.compile(r"(?<!\w)(?<![^.]\.)([A-Za-z_]\w*)(?:\.(\w+))?(\()?")
"""A name with a field of it, if there is one, and whether it is called."""

_CONSTANT = re.compile(r"\boptions\.(\w+)")


@dataclass(frozen=True, slots=True)
class _Mention:
    name: str
    field: str
    is_called: bool


@dataclass(frozen=True, slots=True)
class _Definition:
    name: str
    text: str
    mentions: frozenset[_Mention]


class Fragments:
    """Definitions, of which scripts are composed.

    Args:
        texts: of the fragments; each mentions only what is in it or in one before it.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._definitions: dict[str, _Definition] = {}
        for text in texts:
            for definition in _definitions(text):
                if definition.name in self._definitions:
                    raise ValueError(f"Two fragments define {definition.name}.")
                self._definitions[definition.name] = definition

    def compose(self, step: str) -> str:
        """The text of a script: what the step needs, in the order of the fragments, then the step.

        Raises `ValueError` when a function of a module is called that the module does not have.
        """
        needed: set[str] = set()
        looked_at = [_mentions(step)]
        while looked_at:
            for name in set(self._names(looked_at.pop())) - needed:
                needed.add(name)
                looked_at.append(self._definitions[name].mentions)
        texts = [each.text for each in self._definitions.values() if each.name in needed]
        return "\n".join([*texts, step])

    def _names(self, mentions: Iterable[_Mention]) -> Iterator[str]:
        """The definitions that are meant."""
        for mention in mentions:
            if mention.name not in self._definitions:
                continue  # a variable, or of Lua itself
            yield mention.name
            member = f"{mention.name}.{mention.field}"
            if member in self._definitions:
                yield member
            elif mention.field and mention.is_called:
                raise ValueError(f"A script calls {member}, which no fragment defines.")


def with_constants(text: str, constants: Mapping[str, float | bool]) -> str:
    """The text with every `options.NAME` replaced by its value.

    A table of them would be made anew on every call. Raises `KeyError` for an unknown one.
    """
    return _CONSTANT.sub(lambda found: _literal(constants[found[1]]), text)


def _literal(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _definitions(text: str) -> Iterator[_Definition]:
    lines: list[str] = []
    for line in text.splitlines():
        if not line or line.startswith("--"):
            continue
        if not line.startswith(_GOES_ON):
            if lines:
                yield _definition(lines)
            lines = []
        lines.append(line)
    if lines:
        yield _definition(lines)


def _definition(lines: list[str]) -> _Definition:
    text = "\n".join(lines)
    begins = _DEFINES.match(text)
    if begins is None:
        raise ValueError(f"A fragment consists of definitions; this is none: {lines[0]}")
    return _Definition(begins[1] or begins[2], text, _mentions(text))


def _mentions(text: str) -> frozenset[_Mention]:
    spoken = _SILENT.sub("", text)
    return frozenset(
        _Mention(found[1], found[2] or "", found[3] is not None)
        for found in _MENTIONS.finditer(spoken)
    )
