"""TLS to the backends: what is wrong with a server's certificate, or with a file of ours."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sluice_core.configuration import ConfigurationError

_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAME: Final = frozenset({62, 64})
"""Codes of OpenSSL (x509_vfy.h): time, host name, IP address."""


def certificate_problem(error: BaseException | None, authority: str) -> str | None:
    """Return what is wrong with the server's certificate, then what to do; None for other errors.

    The vendors wrap the error of `ssl` in theirs, each in its own way. Their texts are left out:
    they may quote a request.

    Args:
        authority: the setting that names the trusted authorities.
    """
    for cause in _causes(error):
        # aiohttp's error is one too, but only the one that it wraps has the code.
        code = getattr(cause, "verify_code", None)
        if isinstance(cause, ssl.SSLCertVerificationError) and code is not None:
            return _problem(code, authority)
    return None


def check_tls_files(
    setting: str, *, ca: str | None = None, cert: str | None = None, key: str | None = None
) -> None:
    """Raise `ConfigurationError` if these PEM files cannot be used.

    The vendors open them with every connection, and report a missing one as a server that does not
    answer.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with as_tls_file_error(setting):
        if ca is not None:
            context.load_verify_locations(ca)
        if cert is not None:
            context.load_cert_chain(cert, key)


@contextmanager
def as_tls_file_error(setting: str) -> Iterator[None]:
    """Translate an error of loading TLS files to a `ConfigurationError` of one line."""
    try:
        yield
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{setting}: a TLS file is not PEM, or a key belongs to another certificate; correct it"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"{setting}: a TLS file cannot be read ({error.strerror}); correct its path or its"
            " permissions"
        ) from error


def _problem(code: int, authority: str) -> str:
    if code == _EXPIRED:
        return "has expired; renew it"
    if code == _NOT_YET_VALID:
        return "is not valid yet; check the clock of this machine"
    if code in _OTHER_NAME:
        return "does not name this host; connect to a name that it has, or issue one for this name"
    return f"is not from a trusted authority; name its authority in {authority}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything that caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
