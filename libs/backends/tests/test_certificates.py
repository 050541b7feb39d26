"""What is wrong with a backend's certificate, out of the errors of the vendors."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from sluice_backends.certificates import certificate_problem, check_tls_files
from sluice_core.configuration import ConfigurationError
from support.certificates import REFUSED, Authority, Issued, TlsPaths, replace, write_tls

HOUR = datetime.timedelta(hours=1)
AUTHORITY = Authority()


@asynccontextmanager
async def server(folder: Path, issued: Issued) -> AsyncIterator[int]:
    paths = write_tls(folder, AUTHORITY, issued)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(paths.cert, paths.key)

    async def close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) as running:
        yield running.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("issued", "problem"),
    [
        *((one.issue(AUTHORITY), one.problem) for one in REFUSED.values()),
        (AUTHORITY.issue(ips=["10.0.0.1"]), "does not name this host"),
        (AUTHORITY.issue(begins=HOUR), "is not valid yet"),
    ],
)
async def test_problem_of_a_certificate_is_named(
    tmp_path: Path, issued: Issued, problem: str
) -> None:
    """asyncio raises the error itself, aiohttp wraps it in one of the same class."""
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    failures: list[Exception] = []
    async with server(tmp_path, issued) as port:
        try:
            await asyncio.open_connection("127.0.0.1", port, ssl=context)
        except OSError as failure:
            failures.append(failure)
        async with aiohttp.ClientSession() as session:
            try:
                await session.get(f"https://127.0.0.1:{port}", ssl=context)
            except aiohttp.ClientError as failure:
                failures.append(failure)
    assert len(failures) == 2
    for vendors in failures:
        wrapped = RuntimeError("as vendors do")
        wrapped.__context__ = vendors
        text = certificate_problem(wrapped, "SETTING")
        assert text is not None
        assert text.startswith(problem)
        assert "; " in text


@pytest.mark.parametrize(
    "error", [None, ConnectionRefusedError(), ssl.SSLError("WRONG_VERSION_NUMBER"), TimeoutError()]
)
def test_other_errors_are_no_problem_of_a_certificate(error: Exception | None) -> None:
    assert certificate_problem(error, "SETTING") is None


def test_circular_causes_end() -> None:
    one, other = RuntimeError(), RuntimeError()
    one.__cause__, other.__cause__ = other, one
    assert certificate_problem(one, "SETTING") is None


def test_usable_files_pass(tmp_path: Path) -> None:
    paths = write_tls(tmp_path, AUTHORITY, AUTHORITY.issue())
    check_tls_files("SETTING", ca=str(paths.ca), cert=str(paths.cert), key=str(paths.key))
    check_tls_files("SETTING")


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    paths: TlsPaths = write_tls(tmp_path, AUTHORITY, AUTHORITY.issue())
    cert, key = str(paths.cert), str(paths.key)
    with pytest.raises(ConfigurationError, match="SETTING: a TLS file cannot be read"):
        check_tls_files("SETTING", ca=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigurationError, match="SETTING: a TLS file is not PEM"):
        check_tls_files("SETTING", ca=key)
    replace(paths.key, AUTHORITY.issue().key)
    with pytest.raises(ConfigurationError, match="a key belongs to another certificate"):
        check_tls_files("SETTING", cert=cert, key=key)
