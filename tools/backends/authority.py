"""Certificate authorities, and the certificates and keys that they issue."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """A certificate authority with a key of its own.

    Args:
        ends: end of its validity, from now.
        issued: its certificate and key as `issued` returned them; by default new ones.
    """

    def __init__(
        self,
        name: str = "authority of the tests",
        *,
        ends: datetime.timedelta = DAY,
        issued: Issued | None = None,
    ) -> None:
        self._key: CertificateIssuerPrivateKeyTypes
        if issued is None:
            own, key = _name(name), ec.generate_private_key(ec.SECP256R1())
            self._key = key
            self.certificate = (
                _builder(own, own, key, -DAY, ends)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .sign(key, hashes.SHA256())
            )
        else:
            self._key = _loaded(issued.key)
            self.certificate = x509.load_pem_x509_certificate(issued.cert)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def issued(self) -> Issued:
        """Its own certificate and key, to keep them."""
        return Issued(self.pem, _pem(self._key))

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
        builder = _builder(_name(common_name), self.certificate.subject, key, begins, ends)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def replace(path: Path, content: bytes) -> None:
    """Replace a file atomically; only its owner can read it."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_bytes(content)
    os.replace(draft, path)


def _pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _loaded(pem: bytes) -> CertificateIssuerPrivateKeyTypes:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key of the authority is not on an elliptic curve")
    return key


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
