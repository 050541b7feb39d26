"""Checks of PEM certificates, keys and authorities. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import PublicKeyAlgorithmOID

_MIN_RSA_BITS: Final = 2048
_CURVES: Final = {
    "secp256r1": bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107"),
    "secp384r1": bytes.fromhex("301006072a8648ce3d020106052b81040022"),
}
"""AlgorithmIdentifier of each curve by its name (RFC 5480, 2.1), in DER."""
_RSA_PSS: Final = bytes.fromhex("06092a864886f70d01010a")
"""Object identifier of RSASSA-PSS (RFC 4055, 3.1), in DER."""
_PKCS8: Final = re.compile(rb"-----BEGIN PRIVATE KEY-----(.+?)-----END ", re.DOTALL)
_UNSUPPORTED: Final = (
    "gRPC supports no key of this kind; use RSA of 2048 bits or more (rsaEncryption, not RSA-PSS),"
    " or ECDSA on P-256 or P-384 (as named curves)"
)


class PemError(ValueError):
    """A file that cannot be used: what is wrong, then what to do."""


def check_certificate(chain: bytes, now: float) -> x509.Certificate:
    """Return the first certificate of a chain, that of this process; `now`: Unix seconds.

    The others belong to authorities, which may be listed beyond their end. Raise `PemError`.
    """
    leaf = _certificates(chain)[0]
    with _as_pem_error("the certificate"):
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        is_supported = _is_supported(leaf)
    if ends.timestamp() <= now:
        raise PemError(f"the certificate expired on {_date(ends)}; renew it")
    if begins.timestamp() > now:
        raise PemError(
            f"the certificate is not valid before {_date(begins)}; check the clock of this machine"
        )
    if not is_supported:
        raise PemError(_UNSUPPORTED)
    return leaf


def check_key(key: bytes, certificate: x509.Certificate) -> None:
    """Raise `PemError` unless it is the private key of the certificate."""
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise PemError("the key is encrypted; store it without a passphrase") from None
    except ValueError:
        raise PemError("the file has no private key in PEM; correct it") from None
    except Exception as error:  # noqa: BLE001 - parsers raise kinds of their own
        raise _not_understood("the key", error) from None
    with _as_pem_error("the key"):
        is_supported = not _is_rsa_pss(key)
        ours = _public_bytes(private.public_key())
        theirs = _public_bytes(certificate.public_key())
    if not is_supported:
        raise PemError(_UNSUPPORTED)
    if ours != theirs:
        raise PemError(
            "the key does not belong to the first certificate of the chain; issue both together,"
            " and put the certificate of this process first"
        )


def check_authorities(authorities: bytes, now: float) -> None:
    """Raise `PemError` unless one of the certificates is valid now."""
    certificates = _certificates(authorities)
    with _as_pem_error("an authority"):
        last = max(each.not_valid_after_utc for each in certificates)
    if last.timestamp() <= now:
        raise PemError(f"the last authority expired on {_date(last)}; add its successor")


def _certificates(pem: bytes) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise PemError("the file has no certificate in PEM; correct it") from None
    except Exception as error:  # noqa: BLE001 - parsers raise kinds of their own
        raise _not_understood("a certificate", error) from None


@contextmanager
def _as_pem_error(what: str) -> Iterator[None]:
    """Raise `PemError` for every exception: the fields of a certificate are parsed when read."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - parsers raise kinds of their own
        raise _not_understood(what, error) from None


def _not_understood(what: str, error: Exception) -> PemError:
    return PemError(f"{what} cannot be interpreted ({type(error).__name__}); issue it anew")


def _public_bytes(key: Any) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _is_supported(certificate: x509.Certificate) -> bool:
    """Return whether gRPC's clients and servers can use the certificate in a handshake.

    It loads some others, and then every handshake fails. The parser here also reads RSA-PSS keys
    and curves by their parameters, as if they were the usual ones; gRPC refuses these.
    """
    key = certificate.public_key()
    if isinstance(key, RSAPublicKey):
        is_usual = certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5
        return is_usual and key.key_size >= _MIN_RSA_BITS
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        return False
    return _CURVES[key.curve.name] in certificate.tbs_certificate_bytes


def _is_rsa_pss(key: bytes) -> bool:
    """Return whether a private key is marked as one for RSA-PSS only.

    The parser does not show the mark, which stands in the first bytes (RFC 5958, 2).
    """
    found = _PKCS8.search(key)
    return found is not None and _RSA_PSS in base64.b64decode(found[1])[:32]


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
