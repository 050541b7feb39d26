"""The global names that a Lua text refers to, as Redis's own compiler sees it.

Loading a script shows none that is misspelt, or defined too late: to Lua that is a global, which
Redis refuses when a call gets there. The compiled text (Lua 5.1) tells.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from redis import Redis

_HEADER_BYTES = 12
_GET_GLOBAL, _SET_GLOBAL = 5, 7
_NIL, _BOOLEAN, _NUMBER, _STRING = 0, 1, 3, 4


def globals_of(server: Redis, text: bytes) -> set[str]:
    """What the text reads or writes without having it as a local. Raises what Redis says of a text
    that is no Lua."""
    compiled = server.eval("return string.dump(assert(loadstring(ARGV[1])))", 0, text)
    return set(_Compiled(compiled).function())


class _Compiled:
    """Reads what `string.dump` writes on a 64-bit machine."""

    def __init__(self, compiled: bytes) -> None:
        self._compiled = compiled
        self._at = _HEADER_BYTES

    def function(self) -> Iterator[str]:
        """The globals of one function and of those within it."""
        self._string()  # where it comes from
        self._take("<ii4B")
        code = self._list("<I")
        constants = [self._constant() for _ in range(self._take("<i"))]
        for instruction in code:
            if instruction & 0x3F in (_GET_GLOBAL, _SET_GLOBAL):
                yield str(constants[instruction >> 14])
        for _ in range(self._take("<i")):
            yield from self.function()
        self._list("<i")  # lines
        for _ in range(self._take("<i")):
            self._string()  # a local
            self._take("<ii")
        for _ in range(self._take("<i")):
            self._string()  # an upvalue

    def _constant(self) -> str | float | None:
        kind = self._take("<B")
        if kind == _NIL:
            return None
        if kind == _STRING:
            return self._string()
        assert kind in (_BOOLEAN, _NUMBER), kind
        return float(self._take("<B" if kind == _BOOLEAN else "<d"))

    def _string(self) -> str:
        size = self._take("<Q")
        self._at += size
        return self._compiled[self._at - size : self._at].rstrip(b"\0").decode()

    def _list(self, item: str) -> list[int]:
        return [self._take(item) for _ in range(self._take("<i"))]

    def _take(self, layout: str) -> int:
        """The first of some values."""
        values = struct.unpack_from(layout, self._compiled, self._at)
        self._at += struct.calcsize(layout)
        return values[0]  # type: ignore[no-any-return]
