"""Targets of service channels: forwarded tokens stay on the machine, or go by TLS."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_common.direct.targets import check_forwarding, check_repository_target, is_local
from sluice_common.settings import load_settings
from sluice_core.configuration import ConfigurationError

KEYS = {"mode": "jwt", "secret_file": "/run/secret", "audience": "sluice"}
REMOTE = "dns:///repository:50052"


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:50052",
        "127.0.0.1",
        "localhost:50052",
        "[::1]:50052",
        "dns:localhost:50052",
        "dns:///127.0.0.1:50052",
        "ipv4:127.0.0.1:1,127.0.0.2:2",
        "ipv6:[::1]:50052",
        "ipv6:%5B::1%5D:50052",
        "unix:/run/repository",
        "unix:///run/repository",
        "unix-abstract:repository",
    ],
)
def test_local_target_is_recognized(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize(
    "target",
    [
        "repository:50052",
        "192.0.2.1:50052",
        "0.0.0.0:50052",
        "[2001:db8::1]:50052",
        REMOTE,
        "dns:repository:50052",
        "dns://192.0.2.1/localhost:50052",
        "ipv4:127.0.0.1:1,192.0.2.1:1",
        "xds:///localhost:50052",
        "127.0.0.1.example:50052",
        "localhost.example",
        "",
    ],
)
def test_any_other_target_is_not_local(target: str) -> None:
    assert not is_local(target)


def check(**changes: Any) -> None:
    check_repository_target(load_settings(**{"repository_server": REMOTE, "auth": KEYS, **changes}))


def test_tokens_in_plain_text_to_another_machine_are_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check()
    assert str(caught.value).startswith("SLUICE_REPOSITORY_SERVER is not a loopback address")
    assert "\n" not in str(caught.value)


def test_each_service_with_tokens_is_checked() -> None:
    settings = load_settings(auth=KEYS)
    targets = {"SLUICE_INTAKE_SERVER": REMOTE, "SLUICE_REPOSITORY_SERVER": "127.0.0.1:1"}
    with pytest.raises(ConfigurationError, match="SLUICE_INTAKE_SERVER is not"):
        check_forwarding(settings, targets)
    check_forwarding(settings, {**targets, "SLUICE_INTAKE_SERVER": "localhost:1"})


@pytest.mark.parametrize(
    "changes",
    [
        {"allow_insecure": True},
        {"auth": {}},
        {"tls": {"ca_file": "/run/ca.pem"}},
        {"tls": {"cert_file": "/run/cert.pem", "key_file": "/run/key.pem"}},
        {"repository_server": "127.0.0.1:50052"},
    ],
)
def test_protected_or_local_tokens_are_allowed(changes: dict[str, Any]) -> None:
    check(**changes)
