"""Unit tests: composition of Lua scripts from fragments."""

from __future__ import annotations

import pytest

from sluice_backends.redis.ledger.fragments import Fragments, with_constants

FIRST = """\
-- Words about `first`.

local first = {}

first.key = KEYS[1]
first.list = {} -- of what `second` found
local UNUSED = 'x'

local function helper(value)
  return value + 1
end

function first.of(value)
  return helper(value) -- not second.run(
end
"""

SECOND = """\
local second = {
  size = 3,
}

function second.run(value)
  if value then
    return first.of(value)
  end
end
"""


def compose(step: str) -> str:
    return Fragments([FIRST, SECOND]).compose(step)


def test_scripts_hold_required_definitions_in_fragment_order() -> None:
    assert compose("return second.run(1)").splitlines() == [
        "local first = {}",
        "local function helper(value)",
        "  return value + 1",
        "end",
        "function first.of(value)",
        "  return helper(value) -- not second.run(",
        "end",
        "local second = {",
        "  size = 3,",
        "}",
        "function second.run(value)",
        "  if value then",
        "    return first.of(value)",
        "  end",
        "end",
        "return second.run(1)",
    ]


def test_module_values_are_included_only_where_used() -> None:
    assert compose("return first.key") == "local first = {}\nfirst.key = KEYS[1]\nreturn first.key"
    assert "KEYS" not in compose("return first.list")


@pytest.mark.parametrize(
    "step", ["-- helper", "return 'helper'", "return other.helper", "return 'a -- b' .. x.helper"]
)
def test_comments_strings_and_foreign_fields_are_no_references(step: str) -> None:
    assert compose(step) == step


@pytest.mark.parametrize("step", ["return a..helper(1)", "helper(1)"])
def test_references_are_found_after_any_operator(step: str) -> None:
    assert compose(step).startswith("local function helper(value)")


def test_call_of_an_undefined_module_function_is_refused() -> None:
    with pytest.raises(ValueError, match=r"second\.walk"):
        compose("return second.walk(1)")


def test_duplicate_definitions_are_refused() -> None:
    with pytest.raises(ValueError, match="helper"):
        Fragments([FIRST, "local helper = 1"])


def test_statements_in_a_fragment_are_refused() -> None:
    with pytest.raises(ValueError, match=r"redis\.call"):
        Fragments(["redis.call('DEL', KEYS[1])"])


def test_constants_are_inlined() -> None:
    text = "if options.is_single_server and n > options.most then return options.seconds end"
    values = {"is_single_server": True, "most": 12, "seconds": 0.5}
    assert with_constants(text, values) == "if true and n > 12 then return 0.5 end"
    with pytest.raises(KeyError, match="most"):
        with_constants(text, {"is_single_server": False})
