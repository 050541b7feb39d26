"""Unit tests: the RESP2 codec compared with that of redis-py."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import hiredis
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.connection import Connection
from redis.exceptions import InvalidResponse, MovedError, NoScriptError, ResponseError

from sluice_backends.redis.client.resp import (
    LARGE_BYTES,
    Argument,
    Command,
    ReplyReader,
    encode,
)

SIZES = st.one_of(
    st.integers(0, 40),
    st.integers(LARGE_BYTES - 3, LARGE_BYTES + 3),
    st.integers(2 * LARGE_BYTES - 30, 2 * LARGE_BYTES + 30),
    st.just(5 * LARGE_BYTES),
)


class Value(bytes):
    """Bytes with a short repr, since examples may hold megabytes."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


VALUES = st.builds(
    lambda size, seed: Value(random.Random(seed).randbytes(size)), SIZES, st.integers()
)
STATUS = st.text(st.characters(codec="ascii", exclude_characters="\r\n")).map(str.encode)

REPLIES = st.recursive(
    st.one_of(
        VALUES.map(lambda value: Value(b"$%d\r\n%b\r\n" % (len(value), value))),
        st.integers(-(2**63), 2**63 - 1).map(lambda number: b":%d\r\n" % number),
        STATUS.map(lambda text: b"+%b\r\n" % text),
        STATUS.map(lambda text: b"-ERR %b\r\n" % text),
        st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"$0\r\n\r\n", b"*0\r\n"]),
    ),
    lambda inner: st.lists(inner, max_size=5).map(
        lambda items: Value(b"*%d\r\n" % len(items) + b"".join(items))
    ),
    max_leaves=12,
)


def read(wire: bytes, cuts: Sequence[int]) -> list[Any]:
    """Return the replies of input that arrives in pieces of these sizes, cyclically."""
    replies: list[Any] = []
    reader = ReplyReader(replies.append)
    at, turn = 0, 0
    while at < len(wire):
        room = reader.room()
        assert len(room) > 0, "the event loop takes that for the end of the connection"
        piece = wire[at : at + min(len(room), cuts[turn % len(cuts)])]
        room[: len(piece)] = piece
        reader.filled(len(piece))
        at, turn = at + len(piece), turn + 1
    return replies


def comparable(reply: Any) -> Any:
    if isinstance(reply, list):
        return [comparable(each) for each in reply]
    if isinstance(reply, Exception):
        return ("error", str(reply).removeprefix("ERR "))
    return bytes(reply) if isinstance(reply, bytearray) else reply


@pytest.mark.no_cover
@settings(deadline=None)  # megabytes, on a busy machine
@given(
    st.lists(REPLIES, max_size=6).map(b"".join).map(Value),
    st.lists(st.integers(1, 3 * LARGE_BYTES), min_size=1, max_size=5),
)
@example(b"*2\r\n$3\r\nabc\r\n$-1\r\n", [1])
def test_replies_match_the_library_however_split(wire: bytes, cuts: list[int]) -> None:
    library = hiredis.Reader()
    library.feed(wire)
    expected = []
    while (reply := library.gets()) is not False:
        expected.append(reply)
    assert [comparable(each) for each in read(wire, cuts)] == [comparable(e) for e in expected]


def test_large_values_are_owned_by_the_receiver() -> None:
    wire = b"$%d\r\n%b\r\n" % (LARGE_BYTES, b"a" * LARGE_BYTES)
    first, second = read(wire + wire, [10_000])
    assert isinstance(first, bytearray)
    first[:] = b"b" * LARGE_BYTES
    assert second == b"a" * LARGE_BYTES
    first.clear()  # fails if a memoryview still exports the buffer


def test_errors_match_the_library() -> None:
    moved, forgotten, other = read(
        b"-MOVED 7 127.0.0.1:7001\r\n-NOSCRIPT No matching script.\r\n-WRONGTYPE no\r\n", [99]
    )
    assert isinstance(moved, MovedError)
    assert (moved.host, int(moved.port)) == ("127.0.0.1", 7001)
    assert isinstance(forgotten, NoScriptError)
    assert type(other) is ResponseError


@pytest.mark.parametrize("wire", [b"?what\r\n", b":x\r\n", b"$x\r\n", b"+" + b"y" * 70_000])
def test_invalid_replies_are_refused(wire: bytes) -> None:
    with pytest.raises(InvalidResponse):
        read(wire, [10_000])


LIBRARY: Any = Connection
LIBRARY = LIBRARY()

ARGUMENTS = st.one_of(
    VALUES,
    VALUES.map(lambda value: memoryview(value)),
    st.text(max_size=50),
    st.integers(),
    st.floats(allow_nan=False),
)


@settings(deadline=None)
@given(st.lists(st.lists(ARGUMENTS, max_size=5), min_size=1, max_size=4))
def test_encoded_commands_match_the_library(arguments: list[list[Argument]]) -> None:
    commands: list[Command] = [("NAME", *each) for each in arguments]
    expected = b"".join(LIBRARY.pack_commands(commands))
    assert b"".join(encode(commands)) == expected


def test_large_arguments_are_not_copied() -> None:
    block = memoryview(bytearray(LARGE_BYTES))
    assert any(piece is block for piece in encode([("RPUSH", "k", block), ("PEXPIRE", "k", 1)]))
