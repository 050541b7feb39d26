"""Keys of `sluice serve --auth`: a secret and a first token in the data directory."""

from __future__ import annotations

import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sluice_common.process.data_dir import DataDir, as_data_dir_error
from sluice_common.settings import SluiceSettings
from sluice_common.settings.security import Auth, AuthMode
from sluice_core.access.principal import DEFAULT_TENANT
from sluice_core.access.scopes import Scope
from sluice_core.configuration import ConfigurationError
from sluice_standalone.data_dir import write_secret

if TYPE_CHECKING:
    from sluice_common.security.keys.key_ring import KeyRing

DEFAULT_AUDIENCE: Final = "sluice"
ADMIN: Final = "admin"
"""Subject of the first token."""

_DAY_SECONDS: Final = 24 * 3600.0
_LIFETIME_SECONDS: Final = 365 * _DAY_SECONDS
_RENEWAL_SECONDS: Final = 30 * _DAY_SECONDS
"""A start replaces the first token when it has less time left."""


def own_auth(settings: SluiceSettings, data_dir: DataDir) -> Auth:
    """Return the settings of authentication by the secret in the data directory."""
    auth = settings.auth
    return Auth(
        mode=AuthMode.JWT,
        secret_file=data_dir.auth_secret,
        audience=auth.audience or DEFAULT_AUDIENCE,
        tenant_claim=auth.tenant_claim,
        stream_grace_seconds=auth.stream_grace_seconds,
    )


def with_own_keys(
    settings: SluiceSettings, data_dir: DataDir, now: float | None = None
) -> SluiceSettings:
    """Make the secret and the first token unless they exist; return settings that use them.

    The caller holds the lock of the directory.

    Args:
        now: Unix seconds; None for the current time.

    Raise `ConfigurationError` if keys are set already, or the files cannot be used.
    """
    if settings.auth.mode is not AuthMode.NONE:
        raise ConfigurationError("--auth makes its own keys: unset SLUICE_AUTH__MODE, or omit it")
    auth = own_auth(settings, data_dir)
    at = time.time() if now is None else now
    with as_data_dir_error(data_dir.root):
        if not data_dir.auth_secret.exists():
            write_secret(data_dir.auth_secret, secrets.token_urlsafe(32) + "\n")
        for path in (data_dir.auth_secret, data_dir.admin_token):
            _check_private(path)
        _keep_admin_token(data_dir.admin_token, read_secret(data_dir), auth, at)
    return settings.model_copy(update={"auth": auth})


def _check_private(path: Path) -> None:
    """Raise `ConfigurationError` for a file that every user of the machine may read or replace.

    Its group is left to the operator: Kubernetes gives mounted volumes to one (`fsGroup`).
    """
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO:
        raise ConfigurationError(
            f"{path}: every user of this machine can read or change it; delete it if somebody may"
            " have, otherwise set its mode to 0600"
        )


def read_secret(data_dir: DataDir) -> KeyRing:
    """Return the key in the data directory.

    Raise `ConfigurationError` if it is unusable, `FileNotFoundError` if there is none.
    """
    # Imported late: a server without keys does not need the library.
    from sluice_common.security.keys.key_ring import UnusableKeys, secret_key

    try:
        return secret_key(data_dir.auth_secret.read_bytes())
    except UnusableKeys as error:
        raise ConfigurationError(f"{data_dir.auth_secret}: {error}") from None


def _keep_admin_token(path: Path, secret: KeyRing, auth: Auth, now: float) -> None:
    """Write a new token if the file holds none that stays valid for a while."""
    from sluice_common.security.signing import TokenContent, sign_token

    if path.exists() and _is_valid(path.read_bytes().strip(), secret, auth, now + _RENEWAL_SECONDS):
        return
    content = TokenContent(DEFAULT_TENANT, ADMIN, (Scope.TENANT_ADMIN,), _LIFETIME_SECONDS)
    assert auth.audience is not None, "own_auth sets it"
    token = sign_token(
        secret, content, audience=auth.audience, tenant_claim=auth.tenant_claim, now=now
    )
    write_secret(path, token + "\n")


def _is_valid(text: bytes, secret: KeyRing, auth: Auth, at: float) -> bool:
    from sluice_common.security.claims import ClaimRules, principal_of
    from sluice_common.security.compact import parse_compact
    from sluice_common.security.refusals import TokenRefused

    assert auth.audience is not None, "own_auth sets it"
    try:
        token = parse_compact(text)
        if secret.verify(token) is None:
            return False
        principal_of(token.claims(), ClaimRules(auth.audience, None, auth.tenant_claim), at)
    except TokenRefused:
        return False
    return True
