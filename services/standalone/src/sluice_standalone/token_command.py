"""`sluice token create`: sign a token with the key of `sluice serve --auth`."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sluice_common.process.data_dir import DataDir
from sluice_common.process.lifecycle import EXIT_OK, configuration_failed
from sluice_common.settings import load_settings
from sluice_core.access.principal import DEFAULT_TENANT
from sluice_core.access.scopes import Scope
from sluice_core.configuration import ConfigurationError
from sluice_standalone.own_keys import own_auth, read_secret

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_LIFETIME: Final = re.compile(r"([1-9][0-9]{0,8})([smhd]?)")
_MAX_LIFETIME_SECONDS: Final = 10 * 365 * 24 * 3600


def token(args: Sequence[str]) -> int:
    """Run the command; return its exit code.

    Args:
        args: the arguments after `sluice token`.
    """
    parsed = _parser().parse_args(args)
    try:
        signed = _create(parsed)
    except ConfigurationError as error:
        return configuration_failed(error)
    sys.stdout.write(signed + "\n")
    return EXIT_OK


def parse_lifetime(text: str) -> float:
    """Return the seconds of `90`, `15m`, `12h` or `30d`. Raise `ArgumentTypeError`."""
    found = _LIFETIME.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= _MAX_LIFETIME_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no lifetime; give seconds, or a number with m, h or d, up to 10 years"
        )
    return float(seconds)


def _create(parsed: argparse.Namespace) -> str:
    from sluice_common.security.claims import ClaimRules, principal_of
    from sluice_common.security.compact import parse_compact
    from sluice_common.security.refusals import TokenRefused
    from sluice_common.security.signing import TokenContent, sign_token

    settings = load_settings(data_dir=parsed.data_dir)
    data_dir = DataDir(settings.data_dir)
    auth = own_auth(settings, data_dir)
    try:
        secret = read_secret(data_dir)
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no key in {settings.data_dir}; run `sluice serve --auth` with this data"
            " directory first, or name another one with --data-dir"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{data_dir.auth_secret} cannot be read: {error.strerror}"
        ) from None
    content = TokenContent(
        parsed.tenant,
        parsed.subject,
        parsed.scope,
        parsed.lifetime,
        parsed.drive or (),
        parsed.group or (),
    )
    assert auth.audience is not None, "own_auth sets it"
    now = time.time()
    signed = sign_token(
        secret, content, audience=auth.audience, tenant_claim=auth.tenant_claim, now=now
    )
    try:
        # The server would refuse it only when it is used.
        claims = parse_compact(signed.encode()).claims()
        principal_of(claims, ClaimRules(auth.audience, None, auth.tenant_claim), now)
    except TokenRefused as refused:
        raise ConfigurationError(f"the {refused.check} of the token is not valid") from None
    return signed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sluice token", description="Make tokens.")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser(
        "create",
        help="print a new token",
        description="Print a token that is signed with the key of `sluice serve --auth` in the "
        "data directory. With another source of keys, its issuer makes the tokens.",
    )
    create.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="directory of all data (SLUICE_DATA_DIR)"
    )
    create.add_argument("--tenant", default=DEFAULT_TENANT, help="default: %(default)s")
    create.add_argument("--subject", required=True, help="name of the user or program")
    create.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=[str(scope) for scope in Scope],
        help="what the token allows; may be repeated",
    )
    create.add_argument(
        "--lifetime",
        type=parse_lifetime,
        default="1h",
        metavar="TIME",
        help="seconds, or a number with m, h or d (default: %(default)s)",
    )
    create.add_argument(
        "--drive",
        action="append",
        metavar="DRIVE",
        help="limit the token to this drive, or to a prefix with *; may be repeated",
    )
    create.add_argument(
        "--group", action="append", metavar="GROUP", help="group of the subject; may be repeated"
    )
    return parser
