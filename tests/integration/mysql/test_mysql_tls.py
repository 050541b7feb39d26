"""TLS to the server: as asked for, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import uvloop
from sqlalchemy import text

from sluice_backends.sql.database import open_database
from sluice_core.errors import Unavailable
from support.mysql_server import MysqlServer
from support.mysql_tls import write_certificates
from support.waiting import until

CLIENT_SSL = 1 << 11
SECONDS = 20.0


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest, server: MysqlServer) -> Iterator[asyncio.Runner]:
    """Both loops: a connection becomes TLS in the middle, by ways that loops differ in."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as running:
        yield running
        running.run(all_closed(server.port))


async def all_closed(port: int) -> None:
    """TLS ends when the server has said so too: a loop that ends before leaves sockets open."""

    async def none_open() -> bool:
        connections = psutil.Process().net_connections("tcp")
        return not any(one.raddr and one.raddr.port == port for one in connections)

    await until(none_open, SECONDS, "the end of every connection")


async def cipher(url: str) -> str:
    async with open_database(url) as database, database.read() as connection:
        query = text("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        return str((await connection.execute(query)).one()[1])


def test_what_is_said_is_encrypted_when_the_url_asks_for_it(
    server: MysqlServer, runner: asyncio.Runner
) -> None:
    url = server.create_database()
    assert runner.run(cipher(url)) == ""
    assert runner.run(cipher(f"{url}?ssl_ca={server.ca_file}")) != ""


@pytest.mark.parametrize("trusting", ["another authority", "the system's"])
def test_a_server_whose_certificate_is_not_trusted_is_refused(
    server: MysqlServer, runner: asyncio.Runner, tmp_path: Path, trusting: str
) -> None:
    write_certificates(tmp_path)
    wish = "ssl=true" if trusting == "the system's" else f"ssl_ca={tmp_path / 'ca.pem'}"
    with pytest.raises(Unavailable, match=r"CATALOGUE_ACCESS_DENIED: .*certificate"):
        runner.run(cipher(f"{server.create_database()}?{wish}"))


def test_a_server_that_offers_no_tls_is_told_nothing(
    server: MysqlServer, runner: asyncio.Runner
) -> None:
    """Somebody between took the offer out of the server's greeting."""
    heard = b""

    async def stripped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        upstream, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        greeting = bytearray(await upstream.read(1024))
        # Header, protocol, version up to a zero byte, thread, eight bytes of salt and a zero byte.
        flags = greeting.index(0, 5) + 1 + 4 + 8 + 1
        offered = int.from_bytes(greeting[flags : flags + 2], "little")
        assert offered & CLIENT_SSL
        greeting[flags : flags + 2] = (offered & ~CLIENT_SSL).to_bytes(2, "little")
        writer.write(bytes(greeting))
        heard += await reader.read()
        for end in (writer, to_server):
            end.close()

    async def attempt() -> None:
        async with await asyncio.start_server(stripped, "127.0.0.1", 0) as between:
            port = between.sockets[0].getsockname()[1]
            url = server.url("any", port=port)
            with pytest.raises(Unavailable, match=r"CATALOGUE_ACCESS_DENIED: .*no TLS"):
                await cipher(f"{url}?ssl_ca={server.ca_file}")
            await asyncio.sleep(0.05)

    runner.run(attempt())
    assert heard == b""
