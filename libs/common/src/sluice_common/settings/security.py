"""Settings of authentication and TLS (docs/security.md)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainSerializer, PlainValidator, model_validator
from pydantic_settings import NoDecode

from sluice_common.settings.groups import Group, SecondsOrNever
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.configuration import ConfigurationError


def _to_peers(value: object) -> frozenset[str]:
    """Return the names of a comma-separated list or of a collection."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple | set | frozenset):
        raise ConfigurationError("must be a list of names, separated by commas")
    peers = frozenset(str(name).strip() for name in names) - {""}
    if any("*" in name or len(name.split()) != 1 for name in peers):
        raise ConfigurationError("takes exact names only: list each service, without wildcards")
    return peers


Peers = Annotated[
    frozenset[str],
    NoDecode,
    PlainValidator(_to_peers),
    PlainSerializer(sorted, return_type=list[str]),
]


class AuthMode(StrEnum):
    """How callers prove who they are."""

    NONE = "none"
    """Not at all: everybody is the local principal, and the server stays on loopback."""
    JWT = "jwt"
    """By a signed token in the header `authorization`."""


class Auth(Group):
    """Authentication of callers. With `jwt` the keys come from exactly one source."""

    mode: AuthMode = AuthMode.NONE
    issuer: str | None = None
    """Issuer of an OpenID Connect provider, whose keys are discovered."""
    jwks_file: Path | None = None
    """File with a JSON Web Key Set, read again when it changes."""
    secret_file: Path | None = None
    """File with an HS256 secret of at least 32 bytes, for one machine."""
    audience: str | None = None
    """Required value of the claim `aud`."""
    tenant_claim: Annotated[str, Field(min_length=1)] = "tenant"
    stream_grace_seconds: SecondsOrNever = ServerOptions().stream_grace_seconds
    """How long a stream may outlive its token."""

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Auth:
        given = [each for each in (self.issuer, self.jwks_file, self.secret_file) if each]
        if self.mode is AuthMode.NONE and given:
            raise ConfigurationError("keys without SLUICE_AUTH__MODE=jwt have no effect: set it")
        if self.mode is AuthMode.JWT and len(given) != 1:
            raise ConfigurationError(
                "mode jwt takes its keys from exactly one of SLUICE_AUTH__ISSUER, "
                "SLUICE_AUTH__JWKS_FILE and SLUICE_AUTH__SECRET_FILE"
            )
        if self.mode is AuthMode.JWT and not self.audience:
            raise ConfigurationError("mode jwt needs SLUICE_AUTH__AUDIENCE")
        return self


class Tls(Group):
    """TLS of the servers, and the certificate with which they call each other."""

    cert_file: Path | None = None
    """PEM chain of the server, its own certificate first; read again when it changes."""
    key_file: Path | None = None
    client_ca_file: Path | None = None
    """Authorities of client certificates (mTLS); needs `require_client_cert`."""
    require_client_cert: bool = False
    """Refuse connections without a certificate of those authorities."""
    ca_file: Path | None = None
    """Authorities of the other Sluice servers, for calls between services; the system's if
    unset."""
    peers: Peers = frozenset()
    """Names of services: exact URI SANs (spiffe://…) or DNS SANs of their certificates."""

    @model_validator(mode="after")
    def _complete(self) -> Tls:
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigurationError("cert_file and key_file belong together: set both")
        if self.client_ca_file is not None and self.cert_file is None:
            raise ConfigurationError("client_ca_file needs cert_file and key_file")
        if (self.require_client_cert or self.peers) and self.client_ca_file is None:
            raise ConfigurationError("client certificates need client_ca_file")
        if self.client_ca_file is not None and not self.require_client_cert:
            # gRPC for Python cannot ask for a certificate without requiring it.
            raise ConfigurationError(
                "client_ca_file has no effect without SLUICE_TLS__REQUIRE_CLIENT_CERT=true: set it"
            )
        return self

    @property
    def secures_calls(self) -> bool:
        """Whether this process calls other Sluice services by TLS."""
        return self.cert_file is not None or self.ca_file is not None
