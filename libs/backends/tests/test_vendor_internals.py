"""Private names of vendors still exist in the locked versions."""

from __future__ import annotations

import asyncio
import inspect

import aiomysql
import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio.connection import Connection

from sluice_backends.kafka.aiokafka_internals import discard_batches, sender_task
from sluice_backends.redis.client.redis_py_internals import (
    BaseParser,
    detach_transport,
    transport_of,
)


async def test_aiokafka_producer_has_sender_and_batches() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1")
    try:
        assert sender_task(producer) is None
        discard_batches(producer)
    finally:
        await producer.stop()


class Closed(asyncio.Protocol):
    def __init__(self) -> None:
        self.event = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.event.set()


async def test_redis_py_connection_gives_its_transport_away() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connection = Connection(host="127.0.0.1", port=port)
        await connection._connect()  # type: ignore[no-untyped-call]  # without the handshake
        transport = transport_of(connection)
        assert isinstance(transport, asyncio.Transport)
        closed = Closed()
        transport.set_protocol(closed)
        transport.abort()
        await closed.event.wait()
        detach_transport(connection)
        assert not connection.is_connected


def test_redis_py_parser_makes_errors_of_replies() -> None:
    error = BaseParser.parse_error("WRONGTYPE Operation against a key")  # type: ignore[no-untyped-call]
    assert "Operation" in str(error)


@pytest.mark.parametrize("name", ["_request_authentication", "next_result", "query"])
def test_aiomysql_connection_has_the_overridden_methods(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(aiomysql.Connection, name))
