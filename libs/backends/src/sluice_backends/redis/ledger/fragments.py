"""Composition of Lua scripts from the definitions that they use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_DEFINES = re.compile(r"(?:local )?(?:function (\w+(?:\.\w+)?)\(|(\w+(?:\.\w+)?) =)")
_CONTINUATIONS = (" ", "end", "}")

_COMMENTS_AND_STRINGS = re.compile(r"--.*|'[^'\n]*'")
"""Names in comments and strings are no references."""

_REFERENCES = re.compile(r"(?<!\w)(?<![^.]\.)([A-Za-z_]\w*)(?:\.(\w+))?(\()?")
"""Name, optional field, and whether it is called."""

_CONSTANT = re.compile(r"\boptions\.(\w+)")


@dataclass(frozen=True, slots=True)
class _Reference:
    name: str
    field: str
    is_called: bool


@dataclass(frozen=True, slots=True)
class _Definition:
    name: str
    text: str
    references: frozenset[_Reference]


class Fragments:
    """Definitions from which scripts are composed.

    Redis evaluates the whole text of a script on every call, in its only thread. Unused definitions
    would cost a step more than its commands. So fragments (`lua/fragments/`) are split into
    definitions, and a step gets those that it references, transitively.

    References are read from the text. A fragment consists of comments and of definitions that start
    in the first column: `local name = …`, `module.name = …`, `local function f`,
    `function module.f`. A step is any text.

    Args:
        texts: fragments; each references only itself and earlier ones.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._definitions: dict[str, _Definition] = {}
        for text in texts:
            for definition in _definitions(text):
                if definition.name in self._definitions:
                    raise ValueError(f"Two fragments define {definition.name}.")
                self._definitions[definition.name] = definition

    def compose(self, step: str) -> str:
        """Return a script: the step's definitions in the order of the fragments, then the step.

        Raise `ValueError` for a call of a function that its module does not define.
        """
        needed: set[str] = set()
        pending = [_references(step)]
        while pending:
            for name in set(self._names(pending.pop())) - needed:
                needed.add(name)
                pending.append(self._definitions[name].references)
        texts = [each.text for each in self._definitions.values() if each.name in needed]
        return "\n".join([*texts, step])

    def _names(self, references: Iterable[_Reference]) -> Iterator[str]:
        """Yield the referenced definitions."""
        for reference in references:
            if reference.name not in self._definitions:
                continue  # a variable, or a name of Lua
            yield reference.name
            member = f"{reference.name}.{reference.field}"
            if member in self._definitions:
                yield member
            elif reference.field and reference.is_called:
                raise ValueError(f"A script calls {member}, which no fragment defines.")


def with_constants(text: str, constants: Mapping[str, float | bool]) -> str:
    """Return the text with every `options.NAME` replaced by its value.

    A Lua table would be created on every call. Raise `KeyError` for an unknown name.
    """
    return _CONSTANT.sub(lambda match: _literal(constants[match[1]]), text)


def _literal(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _definitions(text: str) -> Iterator[_Definition]:
    lines: list[str] = []
    for line in text.splitlines():
        if not line or line.startswith("--"):
            continue
        if not line.startswith(_CONTINUATIONS):
            if lines:
                yield _definition(lines)
            lines = []
        lines.append(line)
    if lines:
        yield _definition(lines)


def _definition(lines: list[str]) -> _Definition:
    text = "\n".join(lines)
    match = _DEFINES.match(text)
    if match is None:
        raise ValueError(f"A fragment consists of definitions; this is none: {lines[0]}")
    return _Definition(match[1] or match[2], text, _references(text))


def _references(text: str) -> frozenset[_Reference]:
    code = _COMMENTS_AND_STRINGS.sub("", text)
    return frozenset(
        _Reference(match[1], match[2] or "", match[3] is not None)
        for match in _REFERENCES.finditer(code)
    )
