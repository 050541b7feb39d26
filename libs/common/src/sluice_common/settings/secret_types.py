"""Types of secret settings: what is shown of each, hidden in output, and judged by strength."""

from __future__ import annotations

import base64
import re
from typing import Final
from urllib.parse import parse_qsl, unquote

from pydantic import SecretStr

MASKED: Final = "********"

_SECRET_PARAMETER: Final = re.compile(
    r"passw|passphrase|secret|token|credential|api_?key", re.IGNORECASE
)
_SECRET_HEADER: Final = re.compile(r"auth|token|secret|passw|key|cookie|credential", re.IGNORECASE)
_CERTIFICATE_PARAMETERS: Final = frozenset({"ssl_cert", "ssl_certfile"})
_SCHEME: Final = re.compile(r"^(basic|bearer|apikey|token)\s+", re.IGNORECASE)


class KeyId(SecretStr):
    """Name of a key. It is hidden, but its strength does not matter: the key itself is secret."""


class SecretUrl(SecretStr):
    """URL that may contain a password; shown without it."""

    def _display(self) -> str:
        scheme, userinfo, rest = self._split()
        address, separator, query = rest.partition("?")
        query = "&".join(
            f"{name}={MASKED}" if _SECRET_PARAMETER.search(name) else each
            for each in query.split("&")
            for name in [each.partition("=")[0]]
        )
        user = "" if userinfo is None else f"{MASKED}@"
        return f"{scheme}://{user}{address}{separator}{query}"

    @property
    def user(self) -> str:
        """The user in front of the host, decoded; empty without one."""
        return unquote((self._split()[1] or "").partition(":")[0])

    @property
    def raw_password(self) -> str | None:
        """The password in front of the host as written; None without a user and a password."""
        userinfo = self._split()[1]
        return None if not userinfo else userinfo.partition(":")[2]

    @property
    def has_certificate(self) -> bool:
        """Whether the client identifies itself by a certificate, which the query names."""
        names = (each.partition("=")[0] for each in self._split()[2].partition("?")[2].split("&"))
        return any(name in _CERTIFICATE_PARAMETERS for name in names)

    @property
    def parameter_secrets(self) -> tuple[str, ...]:
        """Secret values of the query, decoded."""
        query = self._split()[2].partition("?")[2]
        pairs = parse_qsl(query, keep_blank_values=True)
        return tuple(value for name, value in pairs if _SECRET_PARAMETER.search(name))

    def _split(self) -> tuple[str, str | None, str]:
        """Return scheme, user information and the rest.

        Everything up to the last `@` of the address is user information: a password with
        characters that should have been percent-encoded is hidden whole.
        """
        scheme, _, rest = self.get_secret_value().partition("://")
        address, separator, query = rest.partition("?")
        userinfo, at, host = address.rpartition("@")
        if not at and "@" in query:
            # A raw `?` in the password.
            userinfo, at, host = rest.rpartition("@")
            separator = query = ""
        return scheme, userinfo if at else None, f"{host}{separator}{query}"


class UserPassword(SecretStr):
    """`user:password`."""

    @property
    def user(self) -> str:
        return self.get_secret_value().partition(":")[0]

    @property
    def password(self) -> str:
        return self.get_secret_value().partition(":")[2]


class Headers(SecretStr):
    """`key=value,key=value`."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        entries = (entry.partition("=") for entry in self.get_secret_value().split(","))
        return tuple((name.strip(), value.strip()) for name, _, value in entries)


def hidden_values(secret: SecretStr) -> frozenset[str]:
    """Return the texts of a setting that must appear in no output, in every form it is sent in."""
    value = secret.get_secret_value()
    found: set[str] = {value}
    match secret:
        case SecretUrl():
            raw = secret.raw_password or ""
            # The whole URL is no secret if it contains none.
            found = {raw, unquote(raw), *secret.parameter_secrets}
        case UserPassword():
            found |= {secret.password, base64.b64encode(value.encode()).decode()}
        case Headers():
            found |= {text for _, header in secret.pairs for text in (header, _bare(header))}
        case _:
            pass
    return frozenset(found) - {""}


def judged_values(secret: SecretStr) -> tuple[tuple[str, str], ...]:
    """Return the user (empty if there is none) and the secret of each credential in a setting."""
    match secret:
        case KeyId():
            return ()
        case SecretUrl():
            raw = secret.raw_password
            is_absent = raw is None or (not raw and secret.has_certificate)
            own = () if is_absent else ((secret.user, unquote(raw or "")),)
            return (*own, *(("", value) for value in secret.parameter_secrets))
        case UserPassword():
            return ((secret.user, secret.password),)
        case Headers():
            return tuple(
                ("", _bare(value)) for name, value in secret.pairs if _SECRET_HEADER.search(name)
            )
        case _:
            return (("", secret.get_secret_value()),)


def _bare(header: str) -> str:
    """Return the value of a header without its authentication scheme."""
    return _SCHEME.sub("", header)
