"""A server, or a proxy before it, that takes one statement at a time, where we send several."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pymysql.constants import CLIENT
from structlog.testing import capture_logs

from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_core.errors import AlreadyExists, NotFound
from sluice_core.ports.catalogue import CommitOutcome
from support.commits import DRIVE, TENANT, finished_upload, initiated_event, intent_of
from support.mysql_proxy import MysqlProxy

HEADER = struct.Struct("<I")
"""Length of the packet in three bytes, and its number."""
LOGIN, QUERY = 1, b"\x03"


def framed(payload: bytes) -> bytes:
    return HEADER.pack(len(payload)) + payload


def is_several(packet: bytes) -> bool:
    return packet[4:5] == QUERY and packet.endswith(b";COMMIT")


def unasked(packet: bytes) -> bytes:
    """A client that does not ask for it: the server itself refuses a second statement then."""
    (head,) = HEADER.unpack_from(packet)
    if head >> 24 != LOGIN or packet[4:5] == QUERY:
        return packet
    (capabilities,) = HEADER.unpack_from(packet, 4)
    assert capabilities & CLIENT.MULTI_STATEMENTS
    return packet[:4] + HEADER.pack(capabilities & ~CLIENT.MULTI_STATEMENTS) + packet[8:]


def only_first(packet: bytes) -> bytes:
    """Nothing is refused, and nothing but the first statement is passed on."""
    return framed(packet[4 : packet.index(b";")]) if is_several(packet) else packet


def refused_with(code: int) -> Callable[[bytes], bytes]:
    """The server is made to answer what a proxy would."""
    refusal = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'no'".encode()
    return lambda packet: framed(QUERY + refusal) if is_several(packet) else packet


@asynccontextmanager
async def behind(
    proxy: MysqlProxy, proxied: str, rewrite: Callable[[bytes], bytes]
) -> AsyncIterator[SqlCatalogue]:
    packets = 0

    def counting(packet: bytes) -> bytes:
        nonlocal packets
        packets += is_several(packet)
        return rewrite(packet)

    proxy.rewrite = counting
    async with open_catalogue(proxied) as remote:
        yield remote
    assert packets, "nothing was ever sent in one packet"


async def uploaded(remote: SqlCatalogue, path: str) -> str:
    """Intent and commit; the node's id."""
    upload = finished_upload(path)
    commit = replace(upload, ledger_events=[initiated_event(upload)])
    await remote.record_intent(intent_of(commit))
    assert await remote.commit_node(commit) == CommitOutcome(created=True)
    return commit.node_id


@pytest.mark.rule(13, 19)
@pytest.mark.parametrize(
    "rewrite",
    [
        pytest.param(unasked, id="the server refuses"),
        pytest.param(only_first, id="all but the first are dropped"),
        pytest.param(refused_with(1235), id="a proxy does not support it"),
        pytest.param(refused_with(1148), id="a proxy does not allow it"),
        pytest.param(refused_with(9_006), id="a proxy has a number of its own"),
    ],
)
async def test_where_several_statements_are_not_taken_they_go_one_by_one(
    proxied: str,
    proxy: MysqlProxy,
    catalogue: SqlCatalogue,
    rewrite: Callable[[bytes], bytes],
) -> None:
    async with behind(proxy, proxied, rewrite) as remote:
        nodes = [await uploaded(remote, path) for path in ("a", "b")]
    for path, node_id in zip(("a", "b"), nodes, strict=True):
        assert (await catalogue.find_node(TENANT, DRIVE, path)).node_id == node_id
    assert [row.event.key for row in await catalogue.outbox(10)] == [
        node_id for node_id in nodes for _ in range(2)
    ]
    assert not await catalogue.stale_intents(1e12, 10)


async def test_a_refusal_is_logged_and_not_asked_for_again(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue
) -> None:
    sent: list[bytes] = []

    def noting(packet: bytes) -> bytes:
        sent.append(packet)
        return unasked(packet)

    with capture_logs() as logs:
        async with behind(proxy, proxied, noting) as remote:
            for path in ("a", "b"):
                await uploaded(remote, path)
    assert sum(is_several(packet) for packet in sent) == 1
    assert [(entry["event"], entry["code"]) for entry in logs if "code" in entry] == [
        ("catalogue.batches_disabled", 1064)
    ]


async def test_what_was_done_of_a_packet_goes_with_its_connection(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue
) -> None:
    """The node was inserted, and COMMIT dropped. Whoever has the connection next must not commit
    that."""
    upload = finished_upload("a", if_absent=True)
    await catalogue.record_intent(intent_of(upload))
    async with behind(proxy, proxied, only_first) as remote:
        holder = finished_upload("a")
        await catalogue.commit_node(holder)
        with pytest.raises(AlreadyExists, match="PATH_EXISTS"):
            await remote.commit_node(upload)
        assert await remote.hold_lease("relay", "a", 60)
    with pytest.raises(NotFound):
        await catalogue.get_node(TENANT, upload.node_id)
    assert [one.upload_id for one in await catalogue.stale_intents(1e12, 10)] == [upload.upload_id]
