"""TLS of the client against gRPC servers: trust, names, client certificates, plain text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluice_client import (
    Client,
    ClientOptions,
    InvalidArgument,
    RetryPolicy,
    TlsFailed,
    TlsOptions,
    Unavailable,
)
from sluice_client.tls.failures import tls_failure
from support.certificates import DAY, Authority, Issued, TlsPaths, write_tls
from support.fake_intake import FakeIntake
from support.fake_repository import FakeRepository, serving_both


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def another() -> Authority:
    return Authority("authority of others")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def server_credentials(
    issued: Issued, client_ca: Authority | None = None
) -> grpc.ServerCredentials:
    """Return credentials of a server, which requires client certificates of `client_ca`."""
    return grpc.ssl_server_credentials(
        [(issued.key, issued.cert)],
        root_certificates=None if client_ca is None else client_ca.pem,
        require_client_auth=client_ca is not None,
    )


async def serve(stack: AsyncExitStack, credentials: grpc.ServerCredentials | None) -> str:
    """Serve until the test ends. Return host:port."""
    fakes = FakeIntake(), FakeRepository()
    return await stack.enter_async_context(serving_both(*fakes, credentials=credentials))


def trusting(
    options: ClientOptions, paths: TlsPaths, *, certificate: bool = False
) -> ClientOptions:
    tls = TlsOptions(ca_file=paths.ca)
    if certificate:
        tls = replace(tls, cert_file=paths.cert, key_file=paths.key)
    return replace(options, tls=tls)


async def limits(target: str, options: ClientOptions) -> None:
    async with Client(target, token="a-token", options=options) as client:
        await client.limits()


async def failure(target: str, options: ClientOptions) -> TlsFailed:
    with pytest.raises(TlsFailed) as caught:
        await limits(target, options)
    assert "\n" not in str(caught.value)
    assert "SSL" not in str(caught.value), "the text is ours, not a library's"
    return caught.value


@pytest.mark.parametrize("scheme", ["https", "HTTPS", "grpcs"])
async def test_server_of_a_trusted_ca_is_reached(
    stack: AsyncExitStack,
    fast_options: ClientOptions,
    authority: Authority,
    tmp_path: Path,
    scheme: str,
) -> None:
    address = await serve(stack, server_credentials(authority.issue()))
    paths = write_tls(tmp_path, authority, authority.issue())
    await limits(f"{scheme}://{address}/", trusting(fast_options, paths))
    await limits(f"{scheme}://{address}", replace(fast_options, root_certificates=authority.pem))


async def test_both_services_use_tls(
    stack: AsyncExitStack, fast_options: ClientOptions, authority: Authority, tmp_path: Path
) -> None:
    credentials = server_credentials(authority.issue())
    intake, repository = await serve(stack, credentials), await serve(stack, credentials)
    paths = write_tls(tmp_path, authority, authority.issue())
    options = replace(trusting(fast_options, paths), repository_target=f"https://{repository}")
    async with Client(f"https://{intake}", token="a-token", options=options) as client:
        await client.upload(b"x" * 200_000, drive="d", path="p")
        assert [drive async for drive in client.list_drives()] == []


async def test_server_of_another_ca_is_not_trusted(
    stack: AsyncExitStack,
    fast_options: ClientOptions,
    authority: Authority,
    another: Authority,
    tmp_path: Path,
) -> None:
    address = await serve(stack, server_credentials(authority.issue()))
    paths = write_tls(tmp_path, another, another.issue())
    for options in (trusting(fast_options, paths), fast_options):
        error = await failure(f"https://{address}", options)
        assert (error.reason, error.retryable) == ("SERVER_NOT_TRUSTED", False)


async def test_certificate_of_another_name_is_refused(
    stack: AsyncExitStack, fast_options: ClientOptions, authority: Authority, tmp_path: Path
) -> None:
    issued = authority.issue(ips=(), dns=("elsewhere.example",))
    address = await serve(stack, server_credentials(issued))
    paths = write_tls(tmp_path, authority, issued)
    error = await failure(f"https://{address}", trusting(fast_options, paths))
    assert error.reason == "SERVER_NAME_MISMATCH"


@pytest.mark.parametrize(("begins", "ends"), [(-2 * DAY, -DAY), (DAY, 2 * DAY)])
async def test_certificate_outside_its_time_is_refused(
    stack: AsyncExitStack,
    fast_options: ClientOptions,
    authority: Authority,
    tmp_path: Path,
    begins: timedelta,
    ends: timedelta,
) -> None:
    address = await serve(stack, server_credentials(authority.issue(begins=begins, ends=ends)))
    paths = write_tls(tmp_path, authority, authority.issue())
    error = await failure(f"https://{address}", trusting(fast_options, paths))
    assert error.reason == "SERVER_CERTIFICATE_EXPIRED"


async def test_plain_server_behind_https_is_named(
    stack: AsyncExitStack, fast_options: ClientOptions
) -> None:
    address = await serve(stack, None)
    error = await failure(f"https://{address}", fast_options)
    assert error.reason == "SERVER_WITHOUT_TLS"


@pytest.mark.parametrize("prefix", ["", "http://", "dns:///", "ipv4:"])
@pytest.mark.parametrize("mutual", [False, True])
async def test_tls_server_behind_a_plain_address_is_named(
    stack: AsyncExitStack,
    fast_options: ClientOptions,
    authority: Authority,
    prefix: str,
    mutual: bool,
) -> None:
    client_ca = authority if mutual else None
    address = await serve(stack, server_credentials(authority.issue(), client_ca))
    error = await failure(f"{prefix}{address}", fast_options)
    assert error.reason == "TLS_REQUIRED"
    assert f"https://{address}" in error.message


async def test_server_that_only_hangs_up_is_unreachable(fast_options: ClientOptions) -> None:
    """Neither TLS nor anything else: no cause is made up."""

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    retry = RetryPolicy(0.001, 0.01, connect_patience_seconds=0.3)
    options = replace(fast_options, retry=retry)
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for target in (address, f"https://{address}"):
            with pytest.raises(Unavailable, match="SERVER_UNREACHABLE") as caught:
                await limits(target, options)
            assert not isinstance(caught.value, TlsFailed)


def test_tls_trouble_of_a_proxy_is_not_ours() -> None:
    """Envoy reports its connection to the server in the same words."""
    text = "upstream connect error: TLS error: CERTIFICATE_VERIFY_FAILED: certificate has expired"
    assert tls_failure(text, "https://a-proxy:1") is None


# -- client certificates


async def test_client_certificate_is_presented(
    stack: AsyncExitStack, fast_options: ClientOptions, authority: Authority, tmp_path: Path
) -> None:
    address = await serve(stack, server_credentials(authority.issue(), authority))
    paths = write_tls(tmp_path, authority, authority.issue(dns=("a-client",)))
    await limits(f"https://{address}", trusting(fast_options, paths, certificate=True))


@pytest.mark.parametrize("kind", ["none", "another", "expired"])
async def test_refused_client_certificate_is_named(
    stack: AsyncExitStack,
    fast_options: ClientOptions,
    authority: Authority,
    another: Authority,
    tmp_path: Path,
    kind: str,
) -> None:
    address = await serve(stack, server_credentials(authority.issue(), authority))
    issued = another.issue() if kind == "another" else authority.issue(begins=-2 * DAY, ends=-DAY)
    paths = write_tls(tmp_path, authority, issued)
    retry = RetryPolicy(0.001, 0.01, connect_patience_seconds=0.3)
    options = replace(trusting(fast_options, paths, certificate=kind != "none"), retry=retry)
    error = await failure(f"https://{address}", options)
    assert error.reason == "CLIENT_CERTIFICATE_REFUSED"


# -- files that are wrong from the beginning


async def test_missing_file_is_an_os_error(fast_options: ClientOptions, tmp_path: Path) -> None:
    options = replace(fast_options, tls=TlsOptions(ca_file=tmp_path / "none.pem"))
    with pytest.raises(FileNotFoundError) as caught:
        await limits("https://127.0.0.1:1", options)
    assert caught.value.filename == str(tmp_path / "none.pem")


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
async def test_file_without_a_ca_is_refused(
    fast_options: ClientOptions, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    options = replace(fast_options, tls=TlsOptions(ca_file=tmp_path / "ca.pem"))
    with pytest.raises(InvalidArgument, match="BAD_TLS_FILES"):
        await limits("https://127.0.0.1:1", options)


@pytest.mark.parametrize("wrong", ["another key", "no key", "no certificate", "encrypted"])
async def test_key_that_does_not_fit_is_refused(
    fast_options: ClientOptions, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    """gRPC would end the process for some of them, and ask at the terminal for a passphrase."""
    issued = authority.issue()
    paths = write_tls(tmp_path, authority, issued)
    match wrong:
        case "another key":
            paths.key.write_bytes(authority.issue().key)
        case "no key":
            paths.key.write_bytes(b"")
        case "no certificate":
            paths.cert.write_bytes(b"")
        case _:
            paths.key.write_bytes(encrypted(issued.key))
    with pytest.raises(InvalidArgument, match="BAD_TLS_FILES"):
        await limits("https://127.0.0.1:1", trusting(fast_options, paths, certificate=True))


def encrypted(key: bytes) -> bytes:
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )


def test_half_of_a_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        TlsOptions(cert_file=Path("cert.pem"))
    with pytest.raises(ValueError, match="belong together"):
        TlsOptions(key_file=Path("key.pem"))


def test_two_kinds_of_trust_are_refused() -> None:
    with pytest.raises(ValueError, match="ca_file"):
        TlsOptions(ca_file=Path("ca.pem"), skip_verification=True)
    with pytest.raises(ValueError, match="root_certificates"):
        ClientOptions(root_certificates=b"", tls=TlsOptions(ca_file=Path("ca.pem")))


# -- trust on first use


@pytest.mark.parametrize("names", [("127.0.0.1",), ("elsewhere.example",), ("*.example",), ()])
async def test_skipped_verification_takes_any_certificate(
    stack: AsyncExitStack,
    fast_options: ClientOptions,
    another: Authority,
    caplog: pytest.LogCaptureFixture,
    names: tuple[str, ...],
) -> None:
    ips = [name for name in names if name[0].isdigit()]
    dns = [name for name in names if not name[0].isdigit()]
    issued = another.issue(ips=ips, dns=dns, common_name="a-server")
    address = await serve(stack, server_credentials(issued))
    options = replace(fast_options, tls=TlsOptions(skip_verification=True))
    await limits(f"https://{address}", options)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "not verified" in caplog.text


async def test_skipped_verification_takes_a_self_signed_one(
    stack: AsyncExitStack, fast_options: ClientOptions
) -> None:
    address = await serve(stack, server_credentials(self_signed("localhost")))
    options = replace(fast_options, tls=TlsOptions(skip_verification=True))
    await limits(f"https://{address}", options)


def self_signed(name: str) -> Issued:
    """Return what `openssl req -x509` makes: its own issuer, and no CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Issued(certificate.public_bytes(serialization.Encoding.PEM), private)


async def test_first_certificate_is_pinned(
    fast_options: ClientOptions, authority: Authority, another: Authority
) -> None:
    """A server that takes the first one's place meanwhile is not trusted."""
    options = replace(
        fast_options,
        tls=TlsOptions(skip_verification=True),
        retry=RetryPolicy(0.001, 0.01, patience_seconds=0.3),
    )
    fakes = FakeIntake(), FakeRepository()
    first = AsyncExitStack()
    address = await first.enter_async_context(
        serving_both(*fakes, credentials=server_credentials(authority.issue()))
    )
    port = int(address.rpartition(":")[2])
    async with first, Client(f"https://{address}", options=options) as client:
        await client.limits()
        await first.aclose()
        others = server_credentials(another.issue())
        async with serving_both(*fakes, credentials=others, port=port):
            with pytest.raises(TlsFailed, match="SERVER_NOT_TRUSTED"):
                await client.status("any")


async def test_plain_server_is_no_first_use(
    stack: AsyncExitStack, fast_options: ClientOptions
) -> None:
    address = await serve(stack, None)
    options = replace(fast_options, tls=TlsOptions(skip_verification=True))
    error = await failure(f"https://{address}", options)
    assert error.reason == "SERVER_WITHOUT_TLS"


async def test_first_use_of_an_expired_certificate_fails(
    stack: AsyncExitStack, fast_options: ClientOptions, authority: Authority
) -> None:
    issued = authority.issue(begins=-2 * DAY, ends=-DAY)
    address = await serve(stack, server_credentials(issued))
    options = replace(fast_options, tls=TlsOptions(skip_verification=True))
    error = await failure(f"https://{address}", options)
    assert error.reason == "SERVER_CERTIFICATE_EXPIRED"
