"""Names of all keys. They are a contract: operators and scripts rely on them."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote
from zlib import crc32

from sluice_core.live.updates import Audience
from sluice_core.rates.model import Bucket
from sluice_core.uploads.model import MAX_BLOCK_BYTES

STAGED_BLOCK_BYTES: Final = MAX_BLOCK_BYTES
"""Blocks of one size allow reading a list in slices of known size; 1 MiB is the wire's block."""

GROUP: Final = "repository"
"""The consumer group of every queue stream."""

QUEUE_WAKE: Final = "sluice:queue:wake"
"""Channel of wake-ups: a lane of the queue is no longer empty."""

NONCE: Final = "sluice:nonce"
"""Identity of the ledger; it changes when Redis is emptied or replaced (rule 28)."""


def staged_blocks(size: int) -> int:
    """Return the number of blocks in the list of a chunk of `size` bytes."""
    return -(-size // STAGED_BLOCK_BYTES)


def shard_of(name: str, shards: int) -> int:
    """Return the shard of an upload or of a tenant's work; stable over processes and releases."""
    return crc32(name.encode()) % shards


# -- keys of one upload


def upload(upload_id: str) -> str:
    """Return the prefix of an upload's keys.

    The id is in braces, so all keys of an upload share a slot of Redis Cluster. One script may
    touch them all, and may derive their names from the prefix.
    """
    return f"upload:{{{upload_id}}}:"


def state(upload_id: str) -> str:
    return upload(upload_id) + "state"


def metadata(upload_id: str) -> str:
    return upload(upload_id) + "metadata"


def staging(upload_id: str, token: str) -> str:
    """List: the blocks of a chunk that is being received.

    Every block has STAGED_BLOCK_BYTES; the last has the rest, at least 1 byte. So a chunk of `size`
    bytes has `staged_blocks(size)` blocks, and an empty chunk has no list. The list has a time to
    live; the accept script removes it (PERSIST) and renames the list to
    `chunk(upload_id, number)`.
    """
    return f"{upload(upload_id)}staging:{token}"


def chunk(upload_id: str, number: int) -> str:
    """List: the blocks of an accepted chunk, until its part is stored."""
    return f"{upload(upload_id)}chunks:{number}"


def received(upload_id: str) -> str:
    """Hash: chunk number → `size:crc32c:token:shift` (lua/fragments/crc.lua)."""
    return upload(upload_id) + "received"


def tokens(upload_id: str) -> str:
    """Hash: token of an accepted chunk → its number, as long as its bytes are kept.

    Written by the accept script, for an empty chunk too. When a number gets new bytes (replaced,
    or resent after a rejection), the accept script removes the old token: dropping a token drops
    the bytes of its number.
    """
    return upload(upload_id) + "tokens"


def events(upload_id: str) -> str:
    return upload(upload_id) + "events"


def etags(upload_id: str) -> str:
    return upload(upload_id) + "etags"


def upload_keys(upload_id: str) -> tuple[str, ...]:
    """Return the keys that every ledger script declares, in the order of lua/fragments/call.lua.

    All of them, used or not: while a slot migrates, Redis then refuses the script until all keys
    of the upload are on one server.
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

# -- keys of one shard


def lookup_set(kind: str, shard: int) -> str:
    """Sorted set of a shard's uploads of a kind: index, deadlines and the others of
    lua/fragments/finding.lua."""
    return f"sluice:{kind}:{shard}"


def walk(shard: int) -> str:
    """Rank in the shard's index where the repair walk continues (`RepairWalk`)."""
    return f"sluice:walk:{shard}"


def tenant_uploads(tenant: str) -> str:
    """Sorted set: a tenant's uploads by creation time."""
    return f"sluice:tenant:{tenant}"


def queue(shard: int) -> str:
    """Stream of the shard's parts to store; it shares a slot with the keys that carry its name in
    braces."""
    return f"sluice:queue:{shard}"


def lane(shard: int, kind: str) -> tuple[str, str, str, str, str]:
    """Return the keys of a shard's items of one kind: stream, waiting, ready, later, turns (see
    lua/queue_common.lua). Parts use the shard's own stream."""
    braced = f"{{{queue(shard)}}}"
    stream = queue(shard) if kind == "PART" else f"{braced}:{kind}"
    own = f"{braced}:{kind}:"
    return (stream, own + "waiting", own + "ready", own + "later", own + "turns")


def index(shard: int) -> str:
    return f"sluice:index:{shard}"


def deadlines(shard: int) -> str:
    return f"sluice:deadlines:{shard}"


# -- rates


def rate_bucket(bucket: Bucket) -> str:
    """String: a token bucket (lua/take_rates.lua).

    The tenant is in braces, so all of its buckets share a slot and one script may take from
    several. Names are percent-encoded: they may hold braces and colons.
    """
    name = f"sluice:rate:{{{quote(bucket.tenant, safe='')}}}:{bucket.scope}:{bucket.kind}"
    return f"{name}:{quote(bucket.subject, safe='')}" if bucket.subject else name


# -- live updates


def live_log(audience: Audience) -> tuple[str, str, str]:
    """Return the keys of a user's log of updates, which share a slot (live/lua/log.lua).

    Hash: id of a photo or job → its entry. Sorted set: the same ids by sequence. Hash: `last` and
    `floor`. All end together, some time after the last change or read.
    """
    prefix = f"sluice:live:{{{_user(audience)}}}:"
    return prefix + "entries", prefix + "order", prefix + "state"


def live_channel(audience: Audience) -> str:
    """Return the channel of wake-ups: the user's log has changed."""
    return f"sluice:live:changed:{_user(audience)}"


def _user(audience: Audience) -> str:
    return f"{quote(audience.tenant, safe='')}:{quote(audience.subject, safe='')}"
