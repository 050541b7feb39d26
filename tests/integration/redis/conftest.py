"""Redis servers and connections for the tests of the Redis backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from sluice_backends.redis.client.connection import RedisClients, open_redis
from sluice_backends.redis.options import RedisOptions
from support.ledger_processes import Processes
from support.redis_server import RedisServer, shared_server


@pytest.fixture
def server() -> RedisServer:
    """Return the empty server of this test process."""
    shared = shared_server()
    shared.flush()
    return shared


@pytest.fixture
async def clients(server: RedisServer) -> AsyncIterator[RedisClients]:
    async with open_redis(RedisOptions(server.url)) as opened:
        yield opened


@pytest.fixture
async def processes(server: RedisServer) -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:
        yield Processes(server, stack)
