"""The ledger's scripts: one for every step, put together from the fragments in `lua/ledger/`.

Numbers of the deployment (bounds, lifetimes) are written into the text, so that no call carries
them. Two releases, or two settings during a rollout, therefore run scripts of different names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from hashlib import sha1
from importlib import resources

from sluice_common.coordination.options import LedgerOptions
from sluice_common.coordination.redis import keys
from sluice_common.coordination.redis.scripts import Script
from sluice_common.coordination.rules.budget import (
    ELECTION_SECONDS,
    STILL_FULL_SECONDS,
    VANISHED_HOLDERS,
)
from sluice_common.coordination.rules.layout import STEP_CHUNKS, STEP_PARTS
from sluice_common.coordination.rules.sweep import CLEANUPS
from sluice_common.uploads.model import MAX_CHUNKS, MAX_OBJECT_BYTES
from sluice_common.uploads.planner import LARGEST_FRONTIER_PART, PARTS_PER_TIER

INDEXING_SECONDS = 300.0
"""An upload is opened so soon after it was written into the indexes, or not at all (ADR 0009)."""

PURGE_MARGIN_SECONDS = 3600.0
"""So much longer than `purge_due` needs do the keys of an ended upload live."""

_ENDS = ("ending",)
_PARTS = ("crc", "rows", "fences", "layout", *_ENDS)
_CHUNKS = ("rows", "limits")

_BUDGET = ("room", "elections", "budget")

_FRAGMENTS: Mapping[str, tuple[str, ...]] = {
    "abort": _ENDS,
    "accept_chunk": ("crc", "rows", "fences", "layout", "limits", "staging"),
    "admit_chunk": _CHUNKS,
    "advance": _PARTS,
    "claim_completion": ("fences",),
    "claim_part": ("rows", "fences"),
    "cleanup_done": _ENDS,
    "create": _ENDS,
    "due_cleanup": (),
    "events_published": _ENDS,
    "expire": _ENDS,
    "extend_claim": ("fences",),
    "fail": ("fences", *_ENDS),
    "finish": ("fences", *_ENDS),
    "forget": (),
    "get": (),
    "known_tokens": (),
    "missing_chunks": ("rows",),
    "part_chunks": ("rows",),
    "places": (),
    "ready_completion": ("fences",),
    "ready_parts": ("fences",),
    "record_part": _PARTS,
    "reject_chunk": _PARTS,
    "release_claim": ("fences",),
    "reopen_part": _PARTS,
    "request_completion": _PARTS,
    "set_multipart": ("fences",),
    "stored_parts": ("rows",),
    "upload_events": (),
    "waits_for_room": (),
}
"""Steps on the keys of one upload, and what they need beyond the fragments of every step."""

_BUDGET_STEPS = (
    "budget_admit",
    "budget_backlog",
    "budget_forget",
    "budget_idle_holders",
    "budget_is_full",
    "budget_learn",
    "budget_release",
    "budget_tokens",
    "budget_waits",
)


def ledger_scripts(options: LedgerOptions, *, alone: bool) -> Mapping[str, Script]:
    """The script of every step. `alone`: there is one server, and a script may change budget and
    indexes together with the upload; in a cluster they are in other slots."""
    front = _constants(options, alone=alone)
    scripts = {
        step: _script(front, step, ("call", "plan", "record", *more, "finding", *_BUDGET, "run"))
        for step, more in _FRAGMENTS.items()
    }
    scripts |= {step: _script(front, step, ("call", *_BUDGET)) for step in _BUDGET_STEPS}
    return scripts


def _constants(options: LedgerOptions, *, alone: bool) -> str:
    values: dict[str, float | bool] = {
        "budget_bytes": options.budget_bytes,
        "tenant_budget_bytes": options.tenant_budget_bytes,
        "upload_budget_bytes": options.upload_budget_bytes,
        "look_ahead_parts": options.look_ahead_parts,
        "max_chunk_bytes": options.max_chunk_bytes,
        "idle_lifetime_seconds": options.idle_lifetime_seconds,
        "total_lifetime_seconds": options.total_lifetime_seconds,
        "expiry_grace_seconds": options.expiry_grace_seconds,
        "pressure_idle_seconds": options.pressure_idle_seconds,
        "cleanup_again_seconds": options.cleanup_again_seconds,
        "forget_after_seconds": options.forget_after_seconds,
        "reservation_seconds": options.reservation_seconds,
        "discard_on_accept": options.discard_on_accept,
        "emit_completed": options.emit_completed,
        "max_chunks": MAX_CHUNKS,
        "max_object_bytes": MAX_OBJECT_BYTES,
        "block_bytes": keys.STAGED_BLOCK_BYTES,
        "parts_per_tier": PARTS_PER_TIER,
        "largest_frontier_part": LARGEST_FRONTIER_PART,
        "step_chunks": STEP_CHUNKS,
        "step_parts": STEP_PARTS,
        "election_seconds": ELECTION_SECONDS,
        "still_full_seconds": STILL_FULL_SECONDS,
        "vanished_holders": VANISHED_HOLDERS,
        "cleanups": CLEANUPS,
        "indexing_seconds": INDEXING_SECONDS,
        "purge_margin_seconds": PURGE_MARGIN_SECONDS,
    }
    lines = [f"  {name} = {_lua(value)}," for name, value in values.items()]
    return "\n".join([f"local alone = {_lua(alone)}", "local options = {", *lines, "}\n"])


def _lua(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _script(front: str, step: str, fragments: tuple[str, ...]) -> Script:
    texts = [_text("ledger", name) for name in fragments]
    source = "\n".join([front, *texts, _text("steps", step)]).encode()
    # SHA-1 is Redis's name for a script, not a matter of security.
    return Script(f"ledger_{step}", source, sha1(source, usedforsecurity=False).hexdigest())


@cache
def _text(folder: str, name: str) -> str:
    lua = resources.files("sluice_common.coordination.redis") / "lua"
    return (lua / folder / f"{name}.lua").read_text()
