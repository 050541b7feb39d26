"""How a script's text is put together: what it needs, in order, and nothing else."""

from __future__ import annotations

import pytest

from sluice_backends.redis.ledger.composing import Fragments, with_constants

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


def composed(step: str) -> str:
    return Fragments([FIRST, SECOND]).compose(step)


def test_a_script_has_what_its_step_needs_in_the_order_of_the_fragments() -> None:
    assert composed("return second.run(1)").splitlines() == [
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


def test_a_value_of_a_module_comes_with_it_only_where_it_is_used() -> None:
    assert composed("return first.key") == "local first = {}\nfirst.key = KEYS[1]\nreturn first.key"
    assert "KEYS" not in composed("return first.list")


@pytest.mark.parametrize(
    "step", ["-- helper", "return 'helper'", "return other.helper", "return 'a -- b' .. x.helper"]
)
def test_comments_texts_and_fields_of_others_mention_nothing(step: str) -> None:
    assert composed(step) == step


@pytest.mark.parametrize("step", ["return a..helper(1)", "helper(1)"])
def test_whatever_stands_before_a_name_it_is_found(step: str) -> None:
    assert composed(step).startswith("local function helper(value)")


def test_a_function_that_a_module_does_not_have_is_no_script() -> None:
    with pytest.raises(ValueError, match=r"second\.walk"):
        composed("return second.walk(1)")


def test_a_name_is_defined_once() -> None:
    with pytest.raises(ValueError, match="helper"):
        Fragments([FIRST, "local helper = 1"])


def test_a_fragment_runs_nothing_of_itself() -> None:
    with pytest.raises(ValueError, match=r"redis\.call"):
        Fragments(["redis.call('DEL', KEYS[1])"])


def test_constants_stand_in_the_text() -> None:
    text = "if options.alone and n > options.most then return options.seconds end"
    values = {"alone": True, "most": 12, "seconds": 0.5}
    assert with_constants(text, values) == "if true and n > 12 then return 0.5 end"
    with pytest.raises(KeyError, match="most"):
        with_constants(text, {"alone": False})
