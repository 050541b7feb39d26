"""Test authorities, and certificates of services and servers."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
LOOPBACK = ("127.0.0.1",)


@dataclass(frozen=True, slots=True)
class TlsPaths:
    """Files of one process: its certificate and key, and the authorities that it trusts."""

    folder: Path

    @property
    def cert(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def environment(self) -> dict[str, str]:
        """Return the settings of a server with mTLS that calls others with the same files."""
        return {
            "SLUICE_TLS__CERT_FILE": str(self.cert),
            "SLUICE_TLS__KEY_FILE": str(self.key),
            "SLUICE_TLS__CLIENT_CA_FILE": str(self.ca),
            "SLUICE_TLS__REQUIRE_CLIENT_CERT": "true",
            "SLUICE_TLS__CA_FILE": str(self.ca),
        }


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, in PEM."""

    cert: bytes
    key: bytes

    def write(self, paths: TlsPaths) -> None:
        """Replace the certificate, then the key, each atomically, as rotating tools do."""
        replace(paths.cert, self.cert)
        replace(paths.key, self.key)


class Authority:
    """A certificate authority with a key of its own."""

    def __init__(self, name: str = "authority of the tests") -> None:
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = (
            _builder(self._name, self._name, self._key, -DAY, DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        *,
        ips: Sequence[str] = LOOPBACK,
        dns: Sequence[str] = (),
        uris: Sequence[str] = (),
        common_name: str = "issued for a test",
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = DAY,
        key: CertificateIssuerPrivateKeyTypes | None = None,
    ) -> Issued:
        """Return a certificate with these subject alternative names, valid from now + `begins`.

        Args:
            key: by default a new one on P-256.
        """
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        names += [x509.DNSName(name) for name in dns]
        names += [x509.UniformResourceIdentifier(uri) for uri in uris]
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name), self._name, key, begins, ends)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A certificate that no client may accept, and what the client says about it."""

    issue: Callable[[Authority], Issued]
    problem: str


REFUSED: Final = {
    "another authority": Refused(
        lambda _: Authority("another").issue(), "is not from a trusted authority"
    ),
    "another host": Refused(
        lambda authority: authority.issue(ips=(), dns=["elsewhere.example"]),
        "does not name this host",
    ),
    "expired": Refused(lambda authority: authority.issue(ends=-DAY / 24), "has expired"),
}
"""Certificates that a client at 127.0.0.1 which trusts the given authority has to refuse."""


def write_tls(folder: Path, authority: Authority, issued: Issued) -> TlsPaths:
    """Write the files of one process and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = TlsPaths(folder)
    replace(paths.ca, authority.pem)
    issued.write(paths)
    return paths


def write_certificates(folder: Path) -> None:
    """Write `ca.pem`, `cert.pem` and `key.pem`, valid for 127.0.0.1 and one day."""
    authority = Authority()
    write_tls(folder, authority, authority.issue())


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_bytes(content)
    os.replace(draft, path)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificateIssuerPrivateKeyTypes,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + (begins if begins < ends else ends - DAY))
        .not_valid_after(now + ends)
    )
