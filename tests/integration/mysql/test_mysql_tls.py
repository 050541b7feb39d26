"""Tests of TLS connections to MySQL."""

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
from support.certificates import REFUSED, Authority, replace, write_certificates
from support.mysql_server import MysqlServer
from support.waiting import until

CLIENT_SSL = 1 << 11
SECONDS = 20.0


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest, server: MysqlServer) -> Iterator[asyncio.Runner]:
    """Return a runner of either loop: they differ in how they upgrade a connection to TLS."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as running:
        yield running
        running.run(wait_until_closed(server.port))


async def wait_until_closed(port: int) -> None:
    """Wait for the TLS shutdown of the server: a loop closed earlier leaks sockets."""

    async def none_open() -> bool:
        connections = psutil.Process().net_connections("tcp")
        return not any(one.raddr and one.raddr.port == port for one in connections)

    await until(none_open, SECONDS, "every connection is closed")


async def cipher(url: str) -> str:
    async with open_database(url) as database, database.read() as connection:
        query = text("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        return str((await connection.execute(query)).one()[1])


def test_url_with_tls_encrypts_connection(server: MysqlServer, runner: asyncio.Runner) -> None:
    url = server.create_database()
    assert runner.run(cipher(url)) == ""
    assert runner.run(cipher(f"{url}?ssl_ca={server.ca_file}")) != ""


@pytest.mark.parametrize("trusting", ["another authority", "the system's"])
def test_untrusted_certificate_is_rejected(
    server: MysqlServer, runner: asyncio.Runner, tmp_path: Path, trusting: str
) -> None:
    write_certificates(tmp_path)
    tls_query = "ssl=true" if trusting == "the system's" else f"ssl_ca={tmp_path / 'ca.pem'}"
    with pytest.raises(Unavailable, match=r"CATALOGUE_ACCESS_DENIED: .*certificate"):
        runner.run(cipher(f"{server.create_database()}?{tls_query}"))


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_certificate_is_named(
    server: MysqlServer, runner: asyncio.Runner, tmp_path: Path, kind: str
) -> None:
    authority, refused = Authority(), REFUSED[kind]
    url = f"{server.create_database()}?ssl_ca={tmp_path / 'ca.pem'}"
    replace(tmp_path / "ca.pem", authority.pem)
    with server.showing(refused.issue(authority)):
        with pytest.raises(Unavailable) as caught:
            runner.run(cipher(url))
        assert caught.value.reason == "CATALOGUE_ACCESS_DENIED"
        assert refused.problem in caught.value.operator_message
        assert "\n" not in caught.value.operator_message
    with server.showing(authority.issue()):
        assert runner.run(cipher(url)) != ""


def test_server_without_tls_receives_nothing(server: MysqlServer, runner: asyncio.Runner) -> None:
    """A man in the middle removed the TLS offer from the server's greeting."""
    received = b""

    async def strip_tls_offer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        upstream, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        greeting = bytearray(await upstream.read(1024))
        # Header, protocol, version up to a zero byte, thread, eight bytes of salt and a zero byte.
        flags = greeting.index(0, 5) + 1 + 4 + 8 + 1
        offered = int.from_bytes(greeting[flags : flags + 2], "little")
        assert offered & CLIENT_SSL
        greeting[flags : flags + 2] = (offered & ~CLIENT_SSL).to_bytes(2, "little")
        writer.write(bytes(greeting))
        received += await reader.read()
        for end in (writer, to_server):
            end.close()

    async def attempt() -> None:
        async with await asyncio.start_server(strip_tls_offer, "127.0.0.1", 0) as between:
            port = between.sockets[0].getsockname()[1]
            url = server.url("any", port=port)
            with pytest.raises(Unavailable, match=r"CATALOGUE_ACCESS_DENIED: .*no TLS"):
                await cipher(f"{url}?ssl_ca={server.ca_file}")
            await asyncio.sleep(0.05)

    runner.run(attempt())
    assert received == b""
