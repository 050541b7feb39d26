"""`sluice login`, `logout` and `whoami`."""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from sluice_client.cli import exits
from sluice_client.cli.addresses import find_gateway, named_servers
from sluice_client.cli.arguments import Where
from sluice_client.cli.output import Output
from sluice_client.cli.security_settings import find_security
from sluice_client.cli.session import failed
from sluice_client.errors import SluiceError, Unavailable
from sluice_client.logins.gateway_api import GatewayApi
from sluice_client.logins.renewal import RenewedToken, not_logged_in
from sluice_client.logins.stored_login import LoginFile, StoredLogin, config_dir, hosts_of


def login(where: Where, gateway: str | None, email: str | None, *, json_lines: bool) -> NoReturn:
    """Log in by email and password, and store the tokens."""

    def work(out: Output) -> int:
        url = find_gateway(gateway, os.environ)
        api = _api(where)(url)
        # Not the default: it would let any process on its port receive the token later.
        servers = named_servers(where.server, os.environ)
        name = email or _asked("Email", hidden=False)
        password = _asked("Password", hidden=True)
        began = time.time()
        session = api.login(name, password)
        stored = StoredLogin.of(api.url, hosts_of([api.url, *servers]), session, began)
        file = LoginFile(config_dir(os.environ))
        with file.locked():
            previous = _readable(file)
            file.save(stored)
        if previous is not None:
            _end(where, previous)
        out.result(_record(stored), f"logged in as {stored.email} at {stored.gateway}")
        return exits.OK

    _run(work, json_lines=json_lines)


def logout(where: Where, *, json_lines: bool) -> NoReturn:
    """End the session, and remove the tokens from this machine."""

    def work(out: Output) -> int:
        file = LoginFile(config_dir(os.environ))
        with file.locked():
            stored = _readable(file)
            # First: a gateway that does not answer must not keep the tokens here.
            file.remove()
        if stored is None:
            out.result({"status": "logged_out"}, "there was no log-in")
            return exits.OK
        try:
            _api(where)(stored.gateway).logout(stored.refresh_token)
        except Unavailable as error:
            raise Unavailable(
                error.reason,
                f"{error.message.rstrip('.?')}; the tokens were removed from this machine, and the"
                " session ends when it has not been used for a while",
            ) from None
        out.result({"status": "logged_out"}, f"logged out from {stored.gateway}")
        return exits.OK

    _run(work, json_lines=json_lines)


def whoami(where: Where, *, json_lines: bool) -> NoReturn:
    """Show who is logged in, as the gateway says."""

    def work(out: Output) -> int:
        file = LoginFile(config_dir(os.environ))
        if file.load() is None:
            raise not_logged_in()
        stored = RenewedToken(file, _api(where)).renew()
        user = _api(where)(stored.gateway).me(stored.token)
        record = {**_record(stored), "scopes": list(user.get("scopes", ()))}
        out.result(record, f"{stored.email}  {stored.user_id}  {stored.gateway}")
        return exits.OK

    _run(work, json_lines=json_lines)


def _api(where: Where) -> Callable[[str], GatewayApi]:
    # Other tokens do not matter here, not even files of them that cannot be read.
    without = {name: text for name, text in os.environ.items() if not _is_token(name)}
    security = find_security(where.security, None, without)
    return lambda url: GatewayApi(url, security.tls, allow_insecure=security.allow_insecure)


def _is_token(setting: str) -> bool:
    return setting in ("SLUICE_TOKEN", "SLUICE_TOKEN_FILE")


def _record(stored: StoredLogin) -> dict[str, Any]:
    return {"email": stored.email, "user_id": stored.user_id, "gateway": stored.gateway}


def _readable(file: LoginFile) -> StoredLogin | None:
    """Return the log-in; None for a file that cannot be used, which is to be replaced."""
    try:
        return file.load()
    except SluiceError:
        return None


def _end(where: Where, previous: StoredLogin) -> None:
    """End the session that a new one replaces; best effort."""
    try:
        _api(where)(previous.gateway).logout(previous.refresh_token)
    except SluiceError:
        return


def _asked(what: str, *, hidden: bool) -> str:
    """Return an answer of the user: from the terminal, else the next line of standard input."""
    if sys.stdin is None:
        raise exits.ConfigurationError("standard input is closed; the password is read from it")
    if sys.stdin.isatty():
        return getpass.getpass(f"{what}: ") if hidden else input(f"{what}: ")
    line = sys.stdin.readline()
    if not line.rstrip("\r\n"):
        raise exits.ConfigurationError(
            f"standard input has no {what.lower()}; write it on a line of its own"
        )
    return line.rstrip("\r\n")


def _run(work: Callable[[Output], int], *, json_lines: bool) -> NoReturn:
    """Run a command that calls the gateway only, and exit with its code."""
    out = Output(json_lines=json_lines)
    try:
        code = work(out)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        out.error("stopped.")
        code = exits.INTERRUPTED
    except (SluiceError, exits.ConfigurationError, OSError) as error:
        code = failed(out, error)
    raise typer.Exit(code)
