"""Scripts of the ledger: one per step, composed from `lua/fragments/`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from hashlib import sha1
from importlib import resources
from pathlib import Path

from sluice_backends.redis import keys
from sluice_backends.redis.client.scripts import Script
from sluice_backends.redis.ledger.fragments import Fragments, with_constants
from sluice_core.ledger.budget import (
    ELECTION_SECONDS,
    STILL_FULL_SECONDS,
    VANISHED_HOLDERS,
)
from sluice_core.ledger.layout import STEP_CHUNKS, STEP_PARTS
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ledger.sweep import CLEANUPS
from sluice_core.uploads.model import MAX_CHUNKS, MAX_OBJECT_BYTES
from sluice_core.uploads.planner import LARGEST_FRONTIER_PART, PARTS_PER_TIER

INDEXING_SECONDS = 300.0
"""Longest time between writing an upload's index entries and creating it (ADR 0009)."""

PURGE_MARGIN_SECONDS = 3600.0
"""Additional lifetime of an ended upload's keys, after `purge_due` should have removed them."""

_FRAGMENTS = (
    "call",
    "plan",
    "record",
    "crc",
    "rows",
    "fences",
    "layout",
    "limits",
    "staging",
    "ending",
    "finding",
    "room",
    "elections",
    "budget",
)
"""Fragments of the steps, besides one of the next two; each references only earlier ones."""

_SINGLE_SERVER, _CLUSTER = "single_server", "cluster"


@lru_cache(maxsize=8)
def ledger_scripts(options: LedgerOptions, *, is_single_server: bool) -> Mapping[str, Script]:
    """Return the script of every step.

    Settings (bounds, lifetimes) are constants in the text, so calls need not carry them. Two
    releases, or two configurations during a rollout, therefore run scripts with different SHA-1.

    Kept for the next ledger with these settings: forty scripts take 16 ms of processor.

    Args:
        is_single_server: a script may change budget and indexes together with the upload; in a
            cluster they are in other slots.
    """
    constants = _constants(options, is_single_server=is_single_server)
    return {step: _script(step, constants) for step in _steps()}


def _constants(options: LedgerOptions, *, is_single_server: bool) -> Mapping[str, float | bool]:
    return {
        "is_single_server": is_single_server,
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


@cache
def _steps() -> tuple[str, ...]:
    """Return the names of all steps: those of the files in `lua/steps/`."""
    folder = resources.files(__package__) / "lua" / "steps"
    names = (Path(file.name) for file in folder.iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == ".lua"))


def _script(step: str, constants: Mapping[str, float | bool]) -> Script:
    text = _compose(step, is_single_server=bool(constants["is_single_server"]))
    source = with_constants(text, constants).encode()
    # Redis identifies scripts by SHA-1; it is not used for security.
    return Script(f"ledger_{step}", source, sha1(source, usedforsecurity=False).hexdigest())


@cache
def _compose(step: str, *, is_single_server: bool) -> str:
    return _fragments(is_single_server=is_single_server).compose(_text("steps", step))


@cache
def _fragments(*, is_single_server: bool) -> Fragments:
    names = (*_FRAGMENTS, _SINGLE_SERVER if is_single_server else _CLUSTER, "run")
    return Fragments(_text("fragments", name) for name in names)


def _text(folder: str, name: str) -> str:
    lua = resources.files(__package__) / "lua"
    return (lua / folder / f"{name}.lua").read_text()
