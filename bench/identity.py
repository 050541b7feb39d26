"""Authentication of a deployment by JWT: its key, and a token for each tenant."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sluice_common.security.keys.key_ring import secret_key
from sluice_common.security.signing import TokenContent, sign_token
from sluice_core.access.scopes import Scope

AUDIENCE: Final = "bench"
TENANT_CLAIM: Final = "tenant"
_LIFETIME_SECONDS: Final = 24 * 3600.0
"""Longer than any run: a renewed token would cost one run something that another does not pay."""
_SCOPES: Final = (
    Scope.UPLOADS_WRITE,
    Scope.UPLOADS_READ,
    Scope.NODES_READ,
    Scope.DRIVES_READ,
    Scope.DRIVES_ADMIN,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """The key of a deployment's tokens, in a folder that only this user may read."""

    folder: Path

    @property
    def _secret(self) -> Path:
        return self.folder / "secret"

    @property
    def settings(self) -> Mapping[str, str]:
        """Settings of the servers that accept the tokens."""
        return {
            "SLUICE_AUTH__MODE": "jwt",
            "SLUICE_AUTH__SECRET_FILE": str(self._secret),
            "SLUICE_AUTH__AUDIENCE": AUDIENCE,
            "SLUICE_AUTH__TENANT_CLAIM": TENANT_CLAIM,
        }

    def token_file(self, tenant: str) -> Path:
        """Return a file with a new token of the tenant, for `--token-file` of a load.

        Command lines are visible to every user of the machine; the file is not.
        """
        content = TokenContent(tenant, f"load of {tenant}", _SCOPES, _LIFETIME_SECONDS)
        token = sign_token(
            secret_key(self._secret.read_bytes()),
            content,
            audience=AUDIENCE,
            tenant_claim=TENANT_CLAIM,
            now=time.time(),
        )
        path = self.folder / f"token-{tenant}"
        path.write_text(token, encoding="utf-8")
        return path


@contextmanager
def identity() -> Iterator[Identity]:
    """Make a key; delete it and its tokens at the end."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-keys-") as folder:
        made = Identity(Path(folder))
        made._secret.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        yield made
