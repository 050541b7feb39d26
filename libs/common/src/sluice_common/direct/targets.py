"""gRPC targets of other Sluice services: whether calls to them stay on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from sluice_common.settings import SluiceSettings
from sluice_common.settings.security import AuthMode
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError

_UNIX_SCHEMES: Final = ("unix", "unix-abstract")


def is_local(target: str) -> bool:
    """Return whether calls to a gRPC target certainly stay on this machine.

    Syntax: https://grpc.github.io/grpc/core/md_doc_naming.html. A name server of its own
    (`dns://SERVER/NAME`) may resolve any name to any address.
    """
    scheme, separator, rest = target.partition(":")
    scheme = scheme.lower()
    if separator and scheme in _UNIX_SCHEMES:
        return True
    if separator and scheme in ("ipv4", "ipv6"):
        return all(_is_loopback(unquote(one)) for one in rest.removeprefix("///").split(","))
    if separator and scheme == "dns":
        return _is_loopback(rest.removeprefix("///"))
    return _is_loopback(target)


def check_repository_target(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` if tokens would leave this machine in plain text.

    An intake forwards the tokens of its callers to the repository.
    """
    check_forwarding(settings, {"SLUICE_REPOSITORY_SERVER": settings.repository_server})


def check_forwarding(settings: SluiceSettings, targets: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` if tokens would leave this machine in plain text.

    Args:
        targets: of services to which tokens of callers are forwarded, by the name of the setting.
    """
    if settings.allow_insecure or settings.auth.mode is AuthMode.NONE or settings.tls.secures_calls:
        return
    for setting, target in targets.items():
        if not is_local(target):
            raise ConfigurationError(
                f"{setting} is not a loopback address and calls to it have no TLS, so that"
                " everybody on the way could read the tokens of users: set SLUICE_TLS__CA_FILE (or"
                " SLUICE_TLS__CERT_FILE and SLUICE_TLS__KEY_FILE), use 127.0.0.1, or set"
                " SLUICE_ALLOW_INSECURE=true when the network itself keeps strangers out"
            )


def _is_loopback(endpoint: str) -> bool:
    host, separator, port = endpoint.rpartition(":")
    if not separator or not port.isdecimal() or (":" in host and not host.endswith("]")):
        host = endpoint  # without a port; gRPC then takes 443
    return Address(host.removeprefix("[").removesuffix("]"), 0).is_loopback
