"""Addresses: whether they mean TLS, and whether what is sent there stays on the machine."""

from __future__ import annotations

import pytest

from sluice_client.errors import InvalidArgument
from sluice_client.targets import Target


@pytest.mark.parametrize(
    ("text", "address", "is_tls"),
    [
        ("host:1", "host:1", False),
        ("http://host:1/", "host:1", False),
        ("grpc://host:1", "host:1", False),
        ("https://host:1", "host:1", True),
        ("HTTPS://host:1/", "host:1", True),
        ("grpcs://[::1]:1", "[::1]:1", True),
        ("dns:///host:1", "dns:///host:1", False),
        ("unix:/run/s", "unix:/run/s", False),
    ],
)
def test_scheme_decides_about_tls(text: str, address: str, is_tls: bool) -> None:
    target = Target.parse(text)
    assert (target.text, target.address, target.is_tls) == (text, address, is_tls)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:1",
        "127.9.9.9:1",
        "localhost:1",
        "LOCALHOST:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "http://127.0.0.1:1/",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
        "ipv6:[::1]:1",
        "ipv6:%5B::1%5D:1",
        "dns:localhost:1",
        "dns:///localhost:1",
        "dns://8.8.8.8/127.0.0.1:1",
        "unix:/run/s",
        "unix:///run/s",
        "unix-abstract:s",
    ],
)
def test_loopback_is_local(text: str) -> None:
    assert Target.parse(text).is_local


@pytest.mark.parametrize(
    "text",
    [
        "host:1",
        "10.0.0.1:1",
        "0.0.0.0:1",
        "[fd00::1]:1",
        "127.0.0.1.example:1",
        "localhost.example:1",
        "127.0.0.1@evil:1",
        "http://192.0.2.1:1",
        "ipv4:127.0.0.1:1,192.0.2.1:1",
        "ipv6:[2001:db8::1]:1",
        "dns:host:1",
        "dns:///host:1",
        "dns://127.0.0.1/host:1",
        "xds:///localhost",
        "vsock:2:1",
        "host",
    ],
)
def test_anything_else_is_not_local(text: str) -> None:
    assert not Target.parse(text).is_local


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "http:///",
        "ftp://host:1",
        "https://host:1/path",
        "https://host:1?x",
        "\udcff",
    ],
)
def test_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="BAD_TARGET"):
        Target.parse(text)


def test_user_in_an_address_is_not_repeated() -> None:
    with pytest.raises(InvalidArgument, match="names a user") as caught:
        Target.parse("https://me:secret@host:1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("https://host", ("host", 443)),
        ("[::1]:7", ("::1", 7)),
        ("::1", ("::1", 443)),
        ("unix:/run/s", None),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", None),
    ],
)
def test_endpoint_is_one_host_and_port(text: str, endpoint: tuple[str, int] | None) -> None:
    assert Target.parse(text).endpoint == endpoint
