"""The name of every key. They are part of the contract: operators and scripts rely on them.

All keys of one upload carry its id in braces, so that they share a slot of Redis Cluster and one
script may touch them all. A script may therefore build the names of an upload's other keys from
the one it was given.

What a staging list looks like, for whoever checks or reads it:

- every block has exactly STAGED_BLOCK_BYTES, but for the last, which has the rest (1 byte at
  least): a chunk of `size` bytes has `staged_blocks(size)` blocks;
- an empty chunk has no list;
- the list has a time to live, which the accept script takes away (PERSIST) as it renames it to
  `chunk(upload_id, number)`.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from sluice_core.uploads.model import MAX_BLOCK_BYTES

STAGED_BLOCK_BYTES: Final = MAX_BLOCK_BYTES
"""Reading a list in slices of a known size needs blocks of one size; 1 MiB is the wire's block."""

GROUP: Final = "repository"
"""The consumer group of every queue stream."""

QUEUE_WAKE: Final = "sluice:queue:wake"
"""The channel on which a lane of the queue says that it is no longer empty."""

NONCE: Final = "sluice:nonce"
"""Identity of the ledger; a new value means that Redis was emptied or replaced (rule 28)."""


def staged_blocks(size: int) -> int:
    """How many blocks the list of a chunk of this size has."""
    return -(-size // STAGED_BLOCK_BYTES)


def shard_of(name: str, shards: int) -> int:
    """The shard of an upload (or of a tenant's work); the same in every process and release."""
    return crc32(name.encode()) % shards


# -- of one upload


def upload(upload_id: str) -> str:
    """What all keys of an upload begin with."""
    return f"upload:{{{upload_id}}}:"


def state(upload_id: str) -> str:
    return upload(upload_id) + "state"


def metadata(upload_id: str) -> str:
    return upload(upload_id) + "metadata"


def staging(upload_id: str, token: str) -> str:
    """The blocks of a chunk on its way in."""
    return f"{upload(upload_id)}staging:{token}"


def chunk(upload_id: str, number: int) -> str:
    """The blocks of an accepted chunk, until its part is stored."""
    return f"{upload(upload_id)}chunks:{number}"


def received(upload_id: str) -> str:
    """Hash: chunk number → `size:crc32c:token:shift` (lua/fragments/crc.lua)."""
    return upload(upload_id) + "received"


def tokens(upload_id: str) -> str:
    """Hash: token of an accepted chunk → its number, as long as its bytes are kept.

    Written by the accept script, for an empty chunk too. When other bytes come under the same
    number (replaced, or sent again after a rejection), the script that accepts them takes the old
    token out: dropping a token drops the bytes of the number that it stands for.
    """
    return upload(upload_id) + "tokens"


def events(upload_id: str) -> str:
    return upload(upload_id) + "events"


def etags(upload_id: str) -> str:
    return upload(upload_id) + "etags"


def of_upload(upload_id: str) -> tuple[str, ...]:
    """The keys that every script of the ledger declares, in the order of lua/fragments/call.lua.

    All of them, used or not: while a slot moves to another server of a cluster, that is how Redis
    knows to refuse the script until the whole upload is on one side.
    """
    prefix = upload(upload_id)
    return tuple([prefix + name for name in _OF_UPLOAD])


_OF_UPLOAD: Final = (
    "state",
    "metadata",
    "received",
    "tokens",
    "bits",
    "parts",
    "ready",
    "rejected",
    "holds",
    "etags",
    "events",
    "pages",
)

# -- of one shard


def found_by(kind: str, shard: int) -> str:
    """A sorted set by which uploads of the shard are found: index, deadlines and the others of
    lua/fragments/finding.lua."""
    return f"sluice:{kind}:{shard}"


def walk(shard: int) -> str:
    """How far the walk over the shard's index has come (ledger_walk.py)."""
    return f"sluice:walk:{shard}"


def uploads_of(tenant: str) -> str:
    """Sorted set: a tenant's uploads by their beginning."""
    return f"sluice:tenant:{tenant}"


def queue(shard: int) -> str:
    """The stream of the shard's parts to be stored; `sluice:queue:S` and the keys that carry this
    name in braces share a slot."""
    return f"sluice:queue:{shard}"


def lane(shard: int, kind: str) -> tuple[str, str, str, str, str]:
    """The keys of the shard's items of one kind: stream, waiting, ready, later, turns
    (see lua/queue_common.lua). Parts have the stream that is the shard's."""
    braced = f"{{{queue(shard)}}}"
    stream = queue(shard) if kind == "PART" else f"{braced}:{kind}"
    own = f"{braced}:{kind}:"
    return (stream, own + "waiting", own + "ready", own + "later", own + "turns")


def index(shard: int) -> str:
    return f"sluice:index:{shard}"


def deadlines(shard: int) -> str:
    return f"sluice:deadlines:{shard}"
