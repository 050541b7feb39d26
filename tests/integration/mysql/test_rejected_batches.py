"""Tests of servers and proxies that reject several statements in one packet."""

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
"""Packet length in three bytes and sequence number in one."""
LOGIN, QUERY = 1, b"\x03"


def frame(payload: bytes) -> bytes:
    return HEADER.pack(len(payload)) + payload


def is_batch(packet: bytes) -> bool:
    return packet[4:5] == QUERY and packet.endswith(b";COMMIT")


def without_capability(packet: bytes) -> bytes:
    """Remove the capability from the login: the server then rejects a second statement."""
    (head,) = HEADER.unpack_from(packet)
    if head >> 24 != LOGIN or packet[4:5] == QUERY:
        return packet
    (capabilities,) = HEADER.unpack_from(packet, 4)
    assert capabilities & CLIENT.MULTI_STATEMENTS
    return packet[:4] + HEADER.pack(capabilities & ~CLIENT.MULTI_STATEMENTS) + packet[8:]


def first_statement(packet: bytes) -> bytes:
    """Forward only the first statement, without an error."""
    return frame(packet[4 : packet.index(b";")]) if is_batch(packet) else packet


def rejected_with(code: int) -> Callable[[bytes], bytes]:
    """Make the server respond with the error code of a proxy."""
    refusal = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'no'".encode()
    return lambda packet: frame(QUERY + refusal) if is_batch(packet) else packet


@asynccontextmanager
async def open_behind(
    proxy: MysqlProxy, proxied: str, rewrite: Callable[[bytes], bytes]
) -> AsyncIterator[SqlCatalogue]:
    packets = 0

    def counting(packet: bytes) -> bytes:
        nonlocal packets
        packets += is_batch(packet)
        return rewrite(packet)

    proxy.rewrite = counting
    async with open_catalogue(proxied) as remote:
        yield remote
    assert packets, "nothing was ever sent in one packet"


async def commit_upload(remote: SqlCatalogue, path: str) -> str:
    """Record an intent and commit an upload; return the node id."""
    upload = finished_upload(path)
    commit = replace(upload, ledger_events=[initiated_event(upload)])
    await remote.record_intent(intent_of(commit))
    assert await remote.commit_node(commit) == CommitOutcome(created=True)
    return commit.node_id


@pytest.mark.rule(13, 19)
@pytest.mark.parametrize(
    "rewrite",
    [
        pytest.param(without_capability, id="the server rejects"),
        pytest.param(first_statement, id="all but the first are dropped"),
        pytest.param(rejected_with(1235), id="a proxy does not support it"),
        pytest.param(rejected_with(1148), id="a proxy does not allow it"),
        pytest.param(rejected_with(9_006), id="a proxy has its own code"),
    ],
)
async def test_rejected_batches_fall_back_to_single_statements(
    proxied: str,
    proxy: MysqlProxy,
    catalogue: SqlCatalogue,
    rewrite: Callable[[bytes], bytes],
) -> None:
    async with open_behind(proxy, proxied, rewrite) as remote:
        nodes = [await commit_upload(remote, path) for path in ("a", "b")]
    for path, node_id in zip(("a", "b"), nodes, strict=True):
        assert (await catalogue.find_node(TENANT, DRIVE, path)).node_id == node_id
    assert [row.event.key for row in await catalogue.outbox(10)] == [
        node_id for node_id in nodes for _ in range(2)
    ]
    assert not await catalogue.stale_intents(1e12, 10)


async def test_rejection_is_logged_and_disables_batches(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue
) -> None:
    sent: list[bytes] = []

    def recording(packet: bytes) -> bytes:
        sent.append(packet)
        return without_capability(packet)

    with capture_logs() as logs:
        async with open_behind(proxy, proxied, recording) as remote:
            for path in ("a", "b"):
                await commit_upload(remote, path)
    assert sum(is_batch(packet) for packet in sent) == 1
    assert [(entry["event"], entry["code"]) for entry in logs if "code" in entry] == [
        ("catalogue.batches_disabled", 1064)
    ]


async def test_partial_batch_ends_with_its_connection(
    proxied: str, proxy: MysqlProxy, catalogue: SqlCatalogue
) -> None:
    """The node was inserted and COMMIT dropped; the next user must not commit the node."""
    upload = finished_upload("a", if_absent=True)
    await catalogue.record_intent(intent_of(upload))
    async with open_behind(proxy, proxied, first_statement) as remote:
        holder = finished_upload("a")
        await catalogue.commit_node(holder)
        with pytest.raises(AlreadyExists, match="PATH_EXISTS"):
            await remote.commit_node(upload)
        assert await remote.hold_lease("relay", "a", 60)
    with pytest.raises(NotFound):
        await catalogue.get_node(TENANT, upload.node_id)
    assert [one.upload_id for one in await catalogue.stale_intents(1e12, 10)] == [upload.upload_id]
