"""PEM files that parsers do not understand, and keys that gRPC refuses."""

from __future__ import annotations

import base64
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sluice_common.security.tls.files import TlsFiles, read_material
from sluice_common.security.tls.pem import (
    PemError,
    check_authorities,
    check_certificate,
    check_key,
)
from sluice_common.settings.security import Tls
from sluice_core.configuration import ConfigurationError
from support.certificates import Authority

AUTHORITY = Authority()
KEY_KINDS: dict[str, Callable[[], Any]] = {
    "EC": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}


def flipped(der: bytes) -> Iterator[bytes]:
    for position in range(len(der)):
        changed = bytearray(der)
        changed[position] ^= 0x81 if position % 2 else 0x01
        yield bytes(changed)


def is_accepted(check: Callable[[], object]) -> bool:
    """Return whether a check accepts; raise what it must not raise."""
    try:
        check()
    except PemError:
        return False
    return True


def load(pem: bytes) -> x509.Certificate | None:
    with suppress(ValueError, x509.InvalidVersion, DeprecationWarning, UserWarning):
        return x509.load_pem_x509_certificate(pem)
    return None


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_flipped_byte_of_a_certificate_raises_nothing_else(kind: str) -> None:
    """The parser reports some damage by exceptions of its own, when a field is read."""
    certificate = x509.load_pem_x509_certificate(AUTHORITY.issue(key=KEY_KINDS[kind]()).cert)
    key = AUTHORITY.issue(key=KEY_KINDS["EC"]()).key  # loading an RSA key is slow
    now = certificate.not_valid_before_utc.timestamp() + 1
    outcomes = set()
    for der in flipped(certificate.public_bytes(Encoding.DER)):
        pem = ssl.DER_cert_to_PEM_cert(der).encode()
        is_accepted(partial(check_authorities, pem, now))
        outcomes.add(is_accepted(partial(check_certificate, pem, now)))
        if (damaged := load(pem)) is not None:
            is_accepted(partial(check_key, key, damaged))
    assert outcomes == {True, False}, "the signature is not checked"


def test_flipped_byte_of_a_key_raises_nothing_else() -> None:
    issued = AUTHORITY.issue(key=ec.generate_private_key(ec.SECP256R1()))
    certificate = x509.load_pem_x509_certificate(issued.cert)
    der = ssl.PEM_cert_to_DER_cert(
        issued.key.decode().replace("PRIVATE KEY", "CERTIFICATE").replace("EC ", "")
    )
    for changed in flipped(der):
        is_accepted(partial(check_key, pem_of(changed), certificate))


def pem_of(pkcs8: bytes) -> bytes:
    return b"-----BEGIN PRIVATE KEY-----\n%s-----END PRIVATE KEY-----\n" % base64.encodebytes(pkcs8)


def openssl(folder: Path, *options: str) -> tuple[bytes, bytes]:
    """Return a new key with `options`, and a certificate of it."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "genpkey", "-out", str(key), *options], check=True, capture_output=True
    )
    subprocess.run(
        ["openssl", "req", "-x509", "-key", str(key), "-out", str(certificate), "-subj", "/CN=x"],
        check=True,
        capture_output=True,
    )
    return key.read_bytes(), certificate.read_bytes()


CURVE = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt")
UNUSABLE = {
    "RSA-PSS": ("-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"),
    "explicit parameters": (*CURVE, "ec_param_enc:explicit"),
    "SM2": ("-algorithm", "SM2"),
    "secp224k1": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp224k1"),
}


def read(folder: Path, key: bytes, certificate: bytes) -> None:
    (folder / "key.pem").write_bytes(key)
    (folder / "cert.pem").write_bytes(certificate)
    tls = Tls(cert_file=folder / "cert.pem", key_file=folder / "key.pem")
    now = x509.load_pem_x509_certificate(certificate).not_valid_before_utc.timestamp() + 1
    read_material(TlsFiles.of_server(tls), now)


async def grpc_binds(key: bytes, certificate: bytes) -> bool:
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    server = grpc.aio.server()
    try:
        return bool(server.add_secure_port("127.0.0.1:0", credentials))
    except RuntimeError:
        return False
    finally:
        await server.stop(None)


@pytest.mark.parametrize("kind", UNUSABLE)
async def test_pair_that_grpc_cannot_load_is_refused(tmp_path: Path, kind: str) -> None:
    """Otherwise a start fails without a reason, and a rotation never takes effect."""
    key, certificate = openssl(tmp_path, *UNUSABLE[kind])
    assert not await grpc_binds(key, certificate), "if gRPC supports it, so should we"
    with pytest.raises(ConfigurationError, match="SLUICE_TLS__CERT_FILE: ") as caught:
        read(tmp_path, key, certificate)
    assert "\n" not in str(caught.value)


async def test_usual_key_marked_as_rsa_pss_is_refused(tmp_path: Path) -> None:
    private = rsa.generate_private_key(65537, 2048)
    issued = AUTHORITY.issue(key=private)
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    usual, marked = (bytes.fromhex(f"06092a864886f70d0101{end}") for end in ("010500", "0a0500"))
    assert der.count(usual) == 1
    key = pem_of(der.replace(usual, marked))
    with pytest.raises(ConfigurationError, match="SLUICE_TLS__KEY_FILE: "):
        read(tmp_path, key, issued.cert)
