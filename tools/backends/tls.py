"""TLS of the services: a small authority and one certificate, kept in the state directory."""

from __future__ import annotations

import datetime
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from tools.backends.authority import DAY, Authority, Issued, TlsPaths, replace
from tools.backends.errors import ChoiceError
from tools.backends.progress import say
from tools.backends.service import Facts

VARIABLE: Final = "SLUICE_SERVICES_TLS"
AUTHORITY_DAYS: Final = 365
CERTIFICATE_DAYS: Final = 90
RENEWAL_DAYS: Final = 30
"""What is valid for less than this is replaced at the next `up`."""


def wanted() -> bool:
    """Return whether SLUICE_SERVICES_TLS asks for TLS. Raise `ChoiceError` for another value."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise ChoiceError(f"{VARIABLE} is {value!r}: set it to 1, or unset it")
    return value == "1"


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Files of the servers: `ca.pem`, `cert.pem`, `key.pem` and `server.pem` with the last two."""

    paths: TlsPaths

    @property
    def keystore(self) -> Path:
        """The key and the certificate in one file, as Kafka reads them."""
        return self.paths.folder / "server.pem"

    @property
    def serial(self) -> str:
        """The serial number of the certificate, hexadecimal: it tells renewed ones apart."""
        return f"{x509.load_pem_x509_certificate(self.paths.cert.read_bytes()).serial_number:x}"

    def facts(self) -> Facts:
        """Return what clients need, and which certificate a server was started with."""
        return {"ca_file": str(self.paths.ca), "certificate": self.serial}


def prepare(folder: Path) -> ServerTls:
    """Return the files, made or renewed where necessary; only their owner can read them.

    The authority outlives the certificates, so that clients need not read `ca.pem` again whenever
    one is renewed. Both are replaced when they are damaged.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tls = ServerTls(TlsPaths(folder))
    authority_key = folder / "ca-key.pem"
    kept = _kept(tls.paths.ca, authority_key)
    if kept is None:
        say("tls", "making a certificate authority")
        authority = Authority("Sluice's services", ends=AUTHORITY_DAYS * DAY)
        replace(authority_key, authority.issued.key)
        replace(tls.paths.ca, authority.pem)
    else:
        authority = Authority(issued=kept)
    issued = _kept(tls.paths.cert, tls.paths.key)
    if issued is None or not _issued_by(authority, issued):
        say("tls", f"making a certificate for {CERTIFICATE_DAYS} days")
        issued = authority.issue(
            dns=["localhost"], common_name="services", ends=CERTIFICATE_DAYS * DAY
        )
        issued.write(tls.paths)
    replace(tls.keystore, issued.key + issued.cert)
    return tls


def check(service: str, facts: Facts, tls: ServerTls | None) -> None:
    """Raise `ChoiceError` if a running server uses TLS and none is wanted, or the reverse."""
    if ("ca_file" in facts) != (tls is not None):
        runs, variable = ("with", "1") if "ca_file" in facts else ("without", "0")
        raise ChoiceError(
            f"the server runs {runs} TLS already: stop it with `services.py down {service}` and "
            f"try again, set {VARIABLE}={variable}, or use another SLUICE_SERVICES_DIR"
        )


def client_context(facts: Facts) -> ssl.SSLContext | None:
    """Return the context of a client that verifies the server; None without TLS."""
    ca_file = facts.get("ca_file")
    return None if ca_file is None else ssl.create_default_context(cafile=ca_file)


def _kept(cert: Path, key: Path) -> Issued | None:
    """Return a certificate that can be kept: complete, its key fits, and it is valid for long."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        found = Issued(cert.read_bytes(), key.read_bytes())
    except OSError:  # missing, or an ssl.SSLError
        return None
    ends = x509.load_pem_x509_certificate(found.cert).not_valid_after_utc
    left = ends - datetime.datetime.now(datetime.UTC)
    return found if left > RENEWAL_DAYS * DAY else None


def _issued_by(authority: Authority, issued: Issued) -> bool:
    try:
        x509.load_pem_x509_certificate(issued.cert).verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
