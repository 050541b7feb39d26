"""How a connection is secured: by the options of the command, else by the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sluice_client.cli.exits import ConfigurationError
from sluice_client.cli.security import SecurityArguments
from sluice_client.errors import InvalidArgument
from sluice_client.options import TlsOptions
from sluice_client.tokens import TokenSource, checked_token

_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})
_FALSE = frozenset({"", "0", "false", "no", "off", "f", "n"})


@dataclass(frozen=True, slots=True)
class Security:
    """How the connections of a command are secured. Its repr is empty: it may hold the token."""

    token: TokenSource | None
    tls: TlsOptions
    allow_insecure: bool

    def __repr__(self) -> str:
        return "Security(…)"


def find_security(
    arguments: SecurityArguments, token_file: str | None, environment: Mapping[str, str]
) -> Security:
    """Return what the options say, and the environment where they say nothing.

    Raise ConfigurationError with the name of the option or setting.
    """
    ca = _file(arguments.ca, "--ca", "SLUICE_CA_FILE", environment)
    cert = _file(arguments.cert, "--cert", "SLUICE_CERT_FILE", environment)
    key = _file(arguments.key, "--key", "SLUICE_KEY_FILE", environment)
    if (cert is None) != (key is None):
        raise ConfigurationError(
            "a certificate and its key belong together: give --cert and --key, or SLUICE_CERT_FILE"
            " and SLUICE_KEY_FILE"
        )
    if arguments.insecure_skip_verify:
        if arguments.ca is not None:
            raise ConfigurationError("--ca and --insecure-skip-verify exclude each other")
        ca = None
    return Security(
        token=_token(token_file, environment),
        tls=TlsOptions(ca, cert, key, skip_verification=arguments.insecure_skip_verify),
        allow_insecure=_allow_insecure(environment),
    )


def _token(token_file: str | None, environment: Mapping[str, str]) -> TokenSource | None:
    text = environment.get("SLUICE_TOKEN") or None
    if token_file is None and text is not None:
        if environment.get("SLUICE_TOKEN_FILE"):
            raise ConfigurationError("SLUICE_TOKEN and SLUICE_TOKEN_FILE exclude each other")
        try:
            return checked_token(text, "SLUICE_TOKEN")
        except InvalidArgument as error:
            raise ConfigurationError(error.message) from None
    return _file(token_file, "--token-file", "SLUICE_TOKEN_FILE", environment)


def _file(
    argument: str | None, option: str, setting: str, environment: Mapping[str, str]
) -> Path | None:
    """Return the file, which can be read. Errors omit its name: by mistake it may be a token."""
    name = option
    if argument is None:
        argument, name = environment.get(setting) or None, setting
    if argument is None:
        return None
    path = Path(argument)
    try:
        if path.is_file():
            path.open("rb").close()
        elif path.is_dir() or not path.exists():
            raise FileNotFoundError(0, "there is no such file")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is not valid"
        raise ConfigurationError(
            f"the file of {name} cannot be read: {reason}; name a file that can"
        ) from None
    return path


def _allow_insecure(environment: Mapping[str, str]) -> bool:
    value = environment.get("SLUICE_ALLOW_INSECURE", "").strip().lower()
    if value not in _TRUE | _FALSE:
        raise ConfigurationError("SLUICE_ALLOW_INSECURE is neither true nor false; set one of them")
    return value in _TRUE
