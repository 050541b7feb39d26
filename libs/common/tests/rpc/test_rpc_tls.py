"""TLS of the gRPC host: versions, client certificates, rotation, peers, metrics over HTTPS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sluice_backends.instruments import Registry
from sluice_backends.memory.rates import MemoryRateBuckets
from sluice_common.rates.limiter import RateLimiter
from sluice_common.rates.metrics import RateMetrics
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.rpc.host import CHANNELZ, METRICS, SERVICE, RpcHost, Service, hosting
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings import load_settings
from sluice_common.telemetry.tracing import Tracing
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError
from sluice_core.rates.model import SECOND_US, Rate, RateKind, RateScope
from support.certificates import DAY, Authority, Issued, TlsPaths, replace, write_tls

ANY = Address("127.0.0.1", 0)
ADDRESS = "SLUICE_INTAKE_ADDRESS"
ECHO = "test.Echo"
SINK = "sluice.repository.v1.ChunkSinkService"
REPOSITORY = "sluice.repository.v1.RepositoryService"
LOOK_UPS = ("GetDrive", "GetNode", "ReserveQuota", "ReleaseQuota")
"""What an intake calls at the repository for a caller."""
SECONDS = 20.0
AUTHORITY = Authority()
USER = AUTHORITY.issue(uris=["spiffe://cluster/user"], common_name="intake.sluice.svc")
INTAKE = AUTHORITY.issue(uris=["spiffe://cluster/intake"])


@pytest.fixture
def paths(tmp_path: Path) -> TlsPaths:
    return write_tls(tmp_path, AUTHORITY, AUTHORITY.issue())


def echo(name: str, *methods: str) -> Service:
    """Return a service whose streams echo their messages."""

    async def stream(_requests: object, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            await context.write(message)

    def add(server: grpc.aio.Server) -> None:
        handler = grpc.stream_stream_rpc_method_handler(stream)
        handlers = dict.fromkeys(methods or ("Stream",), handler)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))

    return Service(name, add)


@asynccontextmanager
async def host(
    paths: TlsPaths,
    *,
    mtls: bool = False,
    registry: Registry | None = None,
    limiter: RateLimiter | None = None,
    **settings: Any,
) -> AsyncIterator[RpcHost]:
    tls: dict[str, Any] = {"cert_file": paths.cert, "key_file": paths.key}
    if mtls:
        tls |= {"client_ca_file": paths.ca, "require_client_cert": True}
    tls |= settings.pop("tls", {})
    used = load_settings(metrics_address=ANY, tls=tls, **settings)
    services = [echo(ECHO), echo(SINK), echo(REPOSITORY, *LOOK_UPS, "ListNodes")]
    async with hosting(
        used,
        services,
        {ADDRESS: ANY},
        registry or Registry(),
        LocalAuthenticator(),
        Tracing(None),
        limiter,
    ) as running:
        yield running


def channel_to(
    running: RpcHost, issued: Issued | None = None, *, trusted: Authority = AUTHORITY
) -> grpc.aio.Channel:
    key, cert = (None, None) if issued is None else (issued.key, issued.cert)
    credentials = grpc.ssl_channel_credentials(trusted.pem, key, cert)
    # Else an earlier connection of this test would be used again.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(str(running.addresses[ADDRESS]), credentials, options)


def open_stream(channel: grpc.aio.Channel, service: str = ECHO, name: str = "Stream") -> Any:
    method: Any = channel.stream_stream(f"/{service}/{name}", None, None)
    return method()


async def echoed(call: Any, message: bytes = b"x") -> bytes:
    async with asyncio.timeout(SECONDS):
        await call.write(message)
        return bytes(await call.read())


async def refusal(
    channel: grpc.aio.Channel, service: str = ECHO, name: str = "Stream"
) -> grpc.aio.AioRpcError:
    async with channel:
        call = open_stream(channel, service, name)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(SECONDS):
                await call.read()
    return caught.value


async def shown_certificate(address: Address) -> bytes:
    """Return the certificate that the server shows to a new connection, in PEM."""
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(str(address.host), address.port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(shown).public_bytes(Encoding.PEM)


async def test_server_speaks_tls_and_nothing_else(paths: TlsPaths) -> None:
    async with host(paths) as running:
        async with channel_to(running) as channel:
            assert await echoed(open_stream(channel)) == b"x"
        plain = grpc.aio.insecure_channel(str(running.addresses[ADDRESS]))
        assert (await refusal(plain)).code() is grpc.StatusCode.UNAVAILABLE
        stranger = channel_to(running, trusted=Authority())
        assert (await refusal(stranger)).code() is grpc.StatusCode.UNAVAILABLE


def client_of(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a client that speaks this version and no other."""
    return _limited(ssl.create_default_context(cadata=AUTHORITY.pem.decode()), version)


def _limited(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.set_ciphers("ALL:@SECLEVEL=0")  # which the old version needs
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


async def handshakes(context: ssl.SSLContext, address: Address) -> bool:
    """Return whether the server completes the handshake of this client."""
    try:
        _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    except OSError:
        return False
    writer.transport.abort()
    return True


@asynccontextmanager
async def permissive_server(paths: TlsPaths, version: ssl.TLSVersion) -> AsyncIterator[Address]:
    """Run a server that accepts this version."""
    context = _limited(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), version)
    context.load_cert_chain(paths.cert, paths.key)
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context
    )
    async with server:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("setting", [ADDRESS, METRICS])
async def test_tls_from_1_2_on_is_accepted(
    paths: TlsPaths, version: ssl.TLSVersion, setting: str
) -> None:
    async with host(paths) as running:
        assert await handshakes(client_of(version), running.addresses[setting])


@pytest.mark.parametrize("setting", [ADDRESS, METRICS])
async def test_tls_below_1_2_is_refused(paths: TlsPaths, setting: str) -> None:
    """Another server accepts the same client first: else its own OpenSSL may be what refuses."""
    old = ssl.TLSVersion.TLSv1_1
    async with permissive_server(paths, old) as address:
        assert await handshakes(client_of(old), address), "OpenSSL here has no TLS 1.1"
    async with host(paths) as running:
        assert not await handshakes(client_of(old), running.addresses[setting])


async def test_mtls_requires_a_certificate_of_the_authority(paths: TlsPaths) -> None:
    async with host(paths, mtls=True) as running:
        async with channel_to(running, USER) as channel:
            assert await echoed(open_stream(channel)) == b"x"
        for issued in (None, Authority("another").issue()):
            error = await refusal(channel_to(running, issued))
            assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_only_listed_peers_reach_internal_services(paths: TlsPaths) -> None:
    """A user's certificate is no service, whatever its common name is."""
    async with host(paths, mtls=True, tls={"peers": ["spiffe://cluster/intake"]}) as running:
        async with channel_to(running, INTAKE) as channel:
            assert await echoed(open_stream(channel, SINK)) == b"x"
        error = await refusal(channel_to(running, USER), SINK)
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert from_rpc_error(error).reason == "NOT_A_SERVICE"
        async with channel_to(running, USER) as channel:
            assert await echoed(open_stream(channel, ECHO)) == b"x"


async def test_look_ups_of_listed_peers_have_no_rate(paths: TlsPaths) -> None:
    """A caller's own calls have, by which certificate they come, and so has all else of a peer."""
    rates = {(RateScope.TENANT, RateKind.CALLS): Rate(1, period_us=86_400 * SECOND_US, burst=1)}
    limiter = RateLimiter(MemoryRateBuckets(), rates, RateMetrics())
    peers = {"peers": ["spiffe://cluster/intake"]}
    async with host(paths, mtls=True, tls=peers, limiter=limiter) as running:
        async with channel_to(running, USER) as channel:
            assert await echoed(open_stream(channel, REPOSITORY, "GetDrive")) == b"x"
        async with channel_to(running, INTAKE) as channel:
            for name in LOOK_UPS * 2:
                assert await echoed(open_stream(channel, REPOSITORY, name)) == b"x"
        for issued, name in ((USER, "GetDrive"), (INTAKE, "ListNodes")):
            error = await refusal(channel_to(running, issued), REPOSITORY, name)
            assert from_rpc_error(error).reason == "RATE_LIMITED"


async def test_service_address_alone_requires_certificates(paths: TlsPaths) -> None:
    """Users without a certificate call the other address, which answers them as no service."""
    peers = {"peers": ["spiffe://cluster/intake"]}
    async with host(paths, mtls=True, tls=peers, service_address=ANY) as running:
        async with channel_to(running) as channel:
            assert await echoed(open_stream(channel, ECHO)) == b"x"
        error = await refusal(channel_to(running), SINK)
        assert from_rpc_error(error).reason == "NOT_A_SERVICE"
        running.addresses = {ADDRESS: running.addresses[SERVICE]}
        error = await refusal(channel_to(running))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        async with channel_to(running, INTAKE) as channel:
            assert await echoed(open_stream(channel, SINK)) == b"x"


async def test_new_certificate_is_shown_and_streams_go_on(paths: TlsPaths) -> None:
    async with host(paths) as running, channel_to(running) as channel:
        call = open_stream(channel)
        assert await echoed(call) == b"x"
        address = running.addresses[ADDRESS]
        for _ in range(3):
            renewed = AUTHORITY.issue()
            renewed.write(paths)
            assert await shown_certificate(address) == renewed.cert
            assert await echoed(call, b"y") == b"y"


async def test_mismatching_files_keep_the_old_certificate(paths: TlsPaths) -> None:
    async with host(paths) as running:
        address = running.addresses[ADDRESS]
        before = await shown_certificate(address)
        renewed = AUTHORITY.issue()
        replace(paths.cert, renewed.cert)
        assert await shown_certificate(address) == before
        replace(paths.key, renewed.key)
        assert await shown_certificate(address) == renewed.cert


async def test_removed_authority_ends_with_the_connection_age(paths: TlsPaths) -> None:
    """New connections are refused at once; open ones end at their age."""
    successor = Authority("successor")
    ages = {"max_connection_age_seconds": 1.0, "connection_grace_seconds": 0.5}
    async with host(paths, mtls=True, grpc=ages) as running, channel_to(running, USER) as channel:
        call = open_stream(channel)
        assert await echoed(call) == b"x"
        replace(paths.ca, successor.pem)
        error = await refusal(channel_to(running, USER))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        async with channel_to(running, successor.issue()) as renewed:
            assert await echoed(open_stream(renewed)) == b"x"
        with pytest.raises(grpc.aio.AioRpcError):
            async with asyncio.timeout(SECONDS):
                await call.read()
        assert (await refusal(channel_to(running, USER))).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_session_ticket_ends_with_its_authority(
    paths: TlsPaths, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """A resumed session shows no certificate, so it must not outlive the authority."""
    user = write_tls(tmp_path / "user", AUTHORITY, USER)
    context = ssl.create_default_context(cafile=user.ca)
    context.load_cert_chain(user.cert, user.key)
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version

    def connect(
        address: Address, session: ssl.SSLSession | None = None
    ) -> tuple[bool, ssl.SSLSession | None]:
        """Return whether the session was resumed, and the new one; raise if the server refuses."""
        plain = socket.create_connection((address.host, address.port), timeout=SECONDS)
        with context.wrap_socket(plain, server_hostname=address.host, session=session) as tls:
            if not tls.recv(1):
                raise ConnectionResetError("closed by the server")
            return bool(tls.session_reused), tls.session

    async with host(paths, mtls=True) as running:
        address = running.addresses[ADDRESS]
        _, first = await asyncio.to_thread(connect, address)
        is_resumed, second = await asyncio.to_thread(connect, address, first)
        assert is_resumed
        replace(paths.ca, Authority("successor").pem)
        with pytest.raises(OSError, match=r"closed|EOF|reset"):
            await asyncio.to_thread(connect, address, second)


@pytest.mark.parametrize(
    ("tls", "grpc_settings", "expected"),
    [
        ({}, {}, 0.0),
        ({"client_ca_file": "ca", "require_client_cert": True}, {}, 3600.0),
        (
            {"client_ca_file": "ca", "require_client_cert": True},
            {"max_connection_age_seconds": 0},
            0.0,
        ),
        ({}, {"max_connection_age_seconds": 7}, 7.0),
    ],
)
def test_connections_age_with_client_certificates(
    tls: dict[str, Any], grpc_settings: dict[str, Any], expected: float
) -> None:
    used = load_settings(tls={"cert_file": "c", "key_file": "k", **tls}, grpc=grpc_settings)
    assert used.to_server_options().max_connection_age_seconds == expected


async def test_metrics_are_served_by_https(paths: TlsPaths) -> None:
    """The end of the certificate is a metric; both follow the files."""
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())

    def scrape(address: Address, path: str = "/metrics") -> str:
        with urlopen(f"https://{address}{path}", context=context, timeout=SECONDS) as answer:
            return str(answer.read().decode())

    def expiry(text: str) -> float:
        name = "sluice_tls_certificate_expiry_timestamp_seconds "
        (line,) = [line for line in text.splitlines() if line.startswith(name)]
        return float(line.removeprefix(name))

    def end_of(issued: bytes) -> float:
        return x509.load_pem_x509_certificate(issued).not_valid_after_utc.timestamp()

    async with host(paths) as running:
        address = running.addresses[METRICS]
        assert await asyncio.to_thread(scrape, address, "/readyz") == "ready\n"
        text = await asyncio.to_thread(scrape, address)
        assert expiry(text) == end_of(paths.cert.read_bytes())
        renewed = AUTHORITY.issue(ends=2 * DAY)
        renewed.write(paths)
        text = await asyncio.to_thread(scrape, address)
        assert expiry(text) == end_of(renewed.cert)
        assert await shown_certificate(address) == renewed.cert


async def test_silent_https_client_delays_nobody(paths: TlsPaths) -> None:
    """Its thread waits for the handshake, not the one that accepts connections."""
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    async with host(paths) as running:
        address = running.addresses[METRICS]
        _, silent = await asyncio.open_connection(address.host, address.port)

        def probe() -> int:
            url = f"https://{address}/healthz"
            with urlopen(url, context=context, timeout=SECONDS) as answer:
                return int(answer.status)

        assert await asyncio.to_thread(probe) == 200
        silent.close()
        await silent.wait_closed()


async def test_channelz_speaks_tls(paths: TlsPaths) -> None:
    async with host(paths, channelz_address=ANY) as running:
        assert await shown_certificate(running.addresses[CHANNELZ]) == paths.cert.read_bytes()


async def test_unusable_files_refuse_the_start(paths: TlsPaths) -> None:
    paths.key.write_text("nonsense")
    with pytest.raises(ConfigurationError, match="SLUICE_TLS__KEY_FILE: the file has no private"):
        async with host(paths):
            pass
