"""Checks of PEM certificates, keys and authorities. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

_MIN_RSA_BITS: Final = 2048
_CURVES: Final = frozenset({"secp256r1", "secp384r1"})


class PemError(ValueError):
    """A file that cannot be used: what is wrong, then what to do."""


def check_certificate(chain: bytes, now: float) -> x509.Certificate:
    """Return the first certificate of a chain, that of this process; `now`: Unix seconds.

    The others belong to authorities, which may be listed beyond their end. Raise `PemError`.
    """
    leaf = _certificates(chain)[0]
    if leaf.not_valid_after_utc.timestamp() <= now:
        raise PemError(f"the certificate expired on {_date(leaf.not_valid_after_utc)}; renew it")
    if leaf.not_valid_before_utc.timestamp() > now:
        raise PemError(
            f"the certificate is not valid before {_date(leaf.not_valid_before_utc)}; check the"
            " clock of this machine"
        )
    if not _is_supported(leaf.public_key()):
        raise PemError(
            "gRPC supports no key of this kind; use RSA of 2048 bits or more, or ECDSA on P-256 or"
            " P-384"
        )
    return leaf


def check_key(key: bytes, certificate: x509.Certificate) -> None:
    """Raise `PemError` unless it is the private key of the certificate."""
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        raise PemError("the key is encrypted; store it without a passphrase") from None
    except ValueError:
        raise PemError("the file has no private key in PEM; correct it") from None
    ours = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    theirs = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if ours != theirs:
        raise PemError(
            "the key does not belong to the first certificate of the chain; issue both together,"
            " and put the certificate of this process first"
        )


def check_authorities(authorities: bytes, now: float) -> None:
    """Raise `PemError` unless one of the certificates is valid now."""
    ends = [each.not_valid_after_utc for each in _certificates(authorities)]
    if max(ends).timestamp() <= now:
        raise PemError(f"the last authority expired on {_date(max(ends))}; add its successor")


def _certificates(pem: bytes) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise PemError("the file has no certificate in PEM; correct it") from None


def _is_supported(key: object) -> bool:
    """Return whether gRPC's clients and servers can use the key in a handshake.

    It loads some others, and then every handshake fails.
    """
    if isinstance(key, RSAPublicKey):
        return key.key_size >= _MIN_RSA_BITS
    return isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
