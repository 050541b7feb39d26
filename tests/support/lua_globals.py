"""The global names that a Lua script refers to, read from Redis's own compiler."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from redis import Redis

_HEADER_BYTES = 12
_GET_GLOBAL, _SET_GLOBAL = 5, 7
_NIL, _BOOLEAN, _NUMBER, _STRING = 0, 1, 3, 4


def globals_of(server: Redis, text: bytes) -> set[str]:
    """Return the global names that the script reads or writes.

    Loading a script does not detect a misspelt name or one that is defined too late: Lua takes it
    for a global, which Redis rejects only when a call reaches it. The compiled script (Lua 5.1)
    lists the globals. Raises the error of Redis for a text that is not Lua.
    """
    compiled = server.eval("return string.dump(assert(loadstring(ARGV[1])))", 0, text)
    return set(_Compiled(compiled).function())


class _Compiled:
    """Parser of the output of `string.dump` on a 64-bit machine."""

    def __init__(self, compiled: bytes) -> None:
        self._compiled = compiled
        self._at = _HEADER_BYTES

    def function(self) -> Iterator[str]:
        """Yield the globals of one function and of its inner functions."""
        self._string()  # source name
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
        """Return the first value of a layout and skip the others."""
        values = struct.unpack_from(layout, self._compiled, self._at)
        self._at += struct.calcsize(layout)
        return values[0]  # type: ignore[no-any-return]
