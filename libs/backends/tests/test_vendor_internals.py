"""Private names of vendors still exist in the locked versions."""

from __future__ import annotations

import asyncio
import inspect

import aiomysql
import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio.connection import Connection

from sluice_backends.kafka.aiokafka_internals import discard_batches, sender_task
from sluice_backends.redis.client.redis_py_internals import BaseParser, transport_of


async def test_aiokafka_producer_has_sender_and_batches() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    try:
        assert sender_task(producer) is None
        discard_batches(producer)
    finally:
        await producer.stop()


async def test_redis_py_connection_has_a_transport() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connection = Connection(host="127.0.0.1", port=port)
        await connection._connect()  # type: ignore[no-untyped-call]  # without the handshake
        assert isinstance(transport_of(connection), asyncio.Transport)
        await connection.disconnect(nowait=True)


def test_redis_py_parser_makes_errors_of_replies() -> None:
    error = BaseParser.parse_error("WRONGTYPE Operation against a key")  # type: ignore[no-untyped-call]
    assert "Operation" in str(error)


@pytest.mark.parametrize("name", ["_request_authentication", "next_result", "query"])
def test_aiomysql_connection_has_what_ours_overrides(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(aiomysql.Connection, name))
