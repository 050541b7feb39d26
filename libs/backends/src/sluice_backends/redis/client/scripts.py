"""Lua scripts: read from the package once, run by their SHA-1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """Script with its name (for metrics), text and SHA-1.

    Run it with `RedisClients.call` or `call_and_wait`. A server that does not know a script
    (restarted, or a new master) gets its text. That is no blind retry: NOSCRIPT is answered before
    anything runs.

    A full Redis (`maxmemory`) refuses a script at its first write that may need memory, unless the
    script has written before. A script that frees memory (a part is recorded, an item settled)
    must not be refused, so it starts with a write that needs none: DEL, HDEL, ZREM, XACK.
    """

    name: str
    source: bytes
    sha: str


@cache
def load_script(package: str, name: str, *fragments: str) -> Script:
    """Return `lua/NAME.lua` of the package, preceded by the `lua/FRAGMENT.lua` that it uses."""
    folder = resources.files(package) / "lua"
    parts = [(folder / f"{each}.lua").read_bytes() for each in (*fragments, name)]
    source = b"\n".join(parts)
    # Redis identifies scripts by SHA-1; it is not used for security.
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest())
