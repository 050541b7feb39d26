"""Options and settings of every command that say how a connection is secured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from sluice_client.cli.exits import ConfigurationError
from sluice_client.errors import InvalidArgument
from sluice_client.options import TlsOptions
from sluice_client.tokens import TokenSource, checked_token

_META_KEY = "sluice.security"
_TRUE = frozenset({"1", "true", "yes", "on", "t", "y"})
_FALSE = frozenset({"", "0", "false", "no", "off", "f", "n"})


@dataclass(frozen=True, slots=True)
class SecurityArguments:
    """The options as given on the command line."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure_skip_verify: bool = False

    @property
    def names_files(self) -> bool:
        return any((self.ca, self.cert, self.key))


@dataclass(frozen=True, slots=True)
class Security:
    """How the connections of a command are secured. Its repr is empty: it may hold the token."""

    token: TokenSource | None
    tls: TlsOptions
    allow_insecure: bool

    def __repr__(self) -> str:
        return "Security(…)"


def security_of(context: typer.Context) -> SecurityArguments:
    """Return the options given before or after the name of the command; later ones win."""
    found = context.meta.get(_META_KEY)
    return found if isinstance(found, SecurityArguments) else SecurityArguments()


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


@cache
def options_of_every_command() -> Sequence[Any]:
    """Return the options as parameters for any command or group.

    They leave their values in the context, not in the arguments of the command's function.
    """
    source = typer.Typer()
    source.command()(_declaration)
    # Typer's types for parameters are private.
    command: Any = typer.main.get_command(source)
    return [one for one in command.params if one.name in SecurityArguments.__slots__]


def _keep(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    if value:
        given = replace(security_of(context), **{str(parameter.name): value})
        context.meta[_META_KEY] = given
    return value


def _declaration(
    ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="CA of the server's certificate; else SLUICE_CA_FILE, else the system's.",
            show_default=False,
            expose_value=False,
            callback=_keep,
        ),
    ] = None,
    cert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Client certificate; else SLUICE_CERT_FILE.",
            show_default=False,
            expose_value=False,
            callback=_keep,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Key of the client certificate; else SLUICE_KEY_FILE.",
            show_default=False,
            expose_value=False,
            callback=_keep,
        ),
    ] = None,
    insecure_skip_verify: Annotated[
        bool,
        typer.Option(
            "--insecure-skip-verify",
            help="Trust the server's certificate unseen. For tests only.",
            expose_value=False,
            callback=_keep,
        ),
    ] = False,
) -> None:
    """Declare the options for Typer; never runs."""
