"""Canaries in what proves who calls whom: the key of tokens, a token, and the key of TLS."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from support import tokens
from support.canaries import Canary, new_canary
from support.certificates import Authority, write_tls

_LINE_IN_KEY = 2
"""Line of a PEM file that only this key has: the first ones name its algorithm."""


@dataclass(frozen=True, slots=True)
class CanaryAccess:
    """Files of a server that takes tokens by TLS, and a caller's token."""

    planted: Mapping[str, Canary]
    environment: Mapping[str, str]
    token: str
    authority: bytes
    """PEM, for clients."""

    @property
    def refused_tokens(self) -> tuple[str, ...]:
        """Tokens with the same secrets that are refused: of another key, cut off, and no token."""
        head, content, signature = self.token.split(".")
        return (
            f"{head}.{content}.{signature[::-1]}",
            f"{head}.{content}",
            self.planted["the claims of the token"].secret,
        )


def plant_access(folder: Path) -> CanaryAccess:
    """Write the files of a server and sign a token; every secret in them is a canary."""
    authority = Authority()
    issued = authority.issue()
    paths = write_tls(folder, authority, issued)
    secret, claim = new_canary("SLUICE_AUTH__SECRET_FILE"), new_canary("the claims of the token")
    # It has to have 32 bytes.
    content = f"{secret.secret}{new_canary('').core}"
    (folder / "secret").write_text(content, encoding="utf-8")
    claims = tokens.claims(time.time(), tenant="default", scope="tenant:admin", canary=claim.core)
    token = tokens.hmac_key(content.encode()).token(claims)
    canaries = (
        secret,
        claim,
        Canary("the signature of the token", token.rpartition(".")[2]),
        Canary("SLUICE_TLS__KEY_FILE", issued.key.decode().splitlines()[_LINE_IN_KEY]),
    )
    return CanaryAccess(
        {canary.name: canary for canary in canaries},
        {
            "SLUICE_AUTH__MODE": "jwt",
            "SLUICE_AUTH__SECRET_FILE": str(folder / "secret"),
            "SLUICE_AUTH__AUDIENCE": tokens.AUDIENCE,
            "SLUICE_TLS__CERT_FILE": str(paths.cert),
            "SLUICE_TLS__KEY_FILE": str(paths.key),
        },
        token,
        authority.pem,
    )
