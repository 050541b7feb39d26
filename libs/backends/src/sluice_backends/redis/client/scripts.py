"""Lua scripts of the adapter: read from the package once, run by their SHA-1.

A script runs by `RedisClients.call(script, keys, arguments)`, or with WAIT by
`RedisClients.call_and_wait` (see there). A server that does not know a script (restarted, or a new
master) is sent its text: NOSCRIPT is answered before anything runs, so that is no blind repeat.

A full Redis (`maxmemory`) refuses a script at its first write that may need memory, unless the
script has written something before. What makes room must not be refused (a part is recorded, an
item settled), so such a script begins with a write that needs none: a DEL, HDEL, ZREM, XACK.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A script by its name (for metrics), text and SHA-1."""

    name: str
    source: bytes
    sha: str


@cache
def load_script(package: str, name: str, *fragments: str) -> Script:
    """Return `lua/NAME.lua` of the package, preceded by the `lua/FRAGMENT.lua` that it uses."""
    folder = resources.files(package) / "lua"
    parts = [(folder / f"{each}.lua").read_bytes() for each in (*fragments, name)]
    source = b"\n".join(parts)
    # SHA-1 is Redis's name for a script, not a matter of security.
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())
