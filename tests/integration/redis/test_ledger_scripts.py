"""Compiled Lua scripts: every referenced name is defined."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice_backends.redis.client.scripts import load_script
from sluice_backends.redis.ledger.scripts import ledger_scripts
from sluice_core.ledger.options import LedgerOptions
from support.lua_globals import globals_of
from support.redis_server import RedisServer

_QUEUE = ("put", "take", "extend", "settle", "depth")
_CHUNKS = ("chunk_drop", "chunk_drop_upload")


@pytest.fixture
def known(server: RedisServer) -> set[str]:
    """Return the global names that Redis provides to scripts."""
    names = "local names = {} for name in pairs(_G) do table.insert(names, name) end return names"
    with server.client() as client:
        return {name.decode() for name in client.eval(names, 0)}


@pytest.mark.parametrize("is_single_server", [True, False], ids=["one server", "cluster"])
@pytest.mark.parametrize("discard", [True, False], ids=["discarding", "keeping"])
def test_ledger_scripts_have_no_undefined_names(
    server: RedisServer, known: set[str], *, is_single_server: bool, discard: bool
) -> None:
    options = replace(LedgerOptions(), discard_on_accept=discard)
    with server.client() as client:
        missing = {
            step: names
            for step, script in ledger_scripts(options, is_single_server=is_single_server).items()
            if (names := globals_of(client, script.source) - known)
        }
    assert missing == {}


def test_other_scripts_have_no_undefined_names(server: RedisServer, known: set[str]) -> None:
    scripts = [
        load_script("sluice_backends.redis.queue", f"queue_{name}", "queue_common")
        for name in _QUEUE
    ]
    scripts += [load_script("sluice_backends.redis.chunks", name) for name in _CHUNKS]
    with server.client() as client:
        for script in scripts:
            assert globals_of(client, script.source) <= known


@pytest.mark.parametrize(
    ("text", "globals_found"),
    [
        ("local function f() return g() end local function g() end return f()", {"g"}),
        ("local a = 1 return function() b = a end", {"b"}),
        ("local a = {true, nil, 1.5, 'c'} return a.c", set()),
        ("for _, key in ipairs(KEYS) do redis.call('DEL', key) end", {"ipairs", "KEYS", "redis"}),
    ],
)
def test_compiled_text_distinguishes_globals_from_locals(
    server: RedisServer, text: str, globals_found: set[str]
) -> None:
    with server.client() as client:
        assert globals_of(client, text.encode()) == globals_found


def test_read_only_steps_carry_no_budget_code() -> None:
    read_only = ledger_scripts(LedgerOptions(), is_single_server=True)["get"].source
    assert b"budget" not in read_only
