"""What a secure channel is made of: CAs, certificate and key, read from files that may change."""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from sluice_client.errors import InvalidArgument, TlsFailed, Unavailable
from sluice_client.options import TlsOptions
from sluice_client.tasks import in_thread
from sluice_client.tls.failures import client_certificate_refused
from sluice_client.tls.probe import fetch_certificate, names_of
from sluice_client.watched_files import CheckTimer, Signature, signatures

_sdk_log = logging.getLogger("sluice_client")

_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Material:
    """PEM texts of one set of credentials; None means the system's CAs, or no certificate."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    """Name that the server's certificate must have, when it is not that of the address."""

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


class TlsFiles:
    """The credentials of a TLS target; `refresh` follows their files."""

    def __init__(
        self,
        options: TlsOptions,
        root_certificates: bytes | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._roots = root_certificates
        self._timer = CheckTimer(clock)
        files = (options.ca_file, options.cert_file, options.key_file)
        self._paths = [Path(file) for file in files if file is not None]
        self._seen: tuple[Signature, ...] = ()
        self.material = Material(ca=root_certificates)

    async def open(self) -> None:
        """Read the files.

        Raise OSError when one cannot be read, InvalidArgument BAD_TLS_FILES when one is not what
        it should be.
        """
        if self._paths:
            self._timer.is_due()
            self._seen, self.material = await in_thread(self._read)

    async def refresh(self) -> None:
        """Read files that changed into `material`. Check at most every `CHECK_SECONDS`."""
        if self._paths and self._timer.is_due():
            await in_thread(self._refresh)

    def _refresh(self) -> None:
        """Read the files again if they differ; keep the last good ones. Blocking."""
        try:
            seen = signatures(self._paths)
            if seen == self._seen:
                return
            read, material = self._read()
        except OSError:
            # A file is missing while it is replaced.
            return
        except InvalidArgument as error:
            self._seen = seen
            _sdk_log.warning("the last good TLS files stay in use: %s", error.message)
            return
        # Files that changed while they were read are read again at the next check.
        if read == signatures(self._paths):
            self._seen, self.material = read, material

    def _read(self) -> tuple[tuple[Signature, ...], Material]:
        """Read and check all files. Blocking."""
        options = self._options
        seen = signatures(self._paths)
        ca = self._roots
        if options.ca_file is not None:
            ca = Path(options.ca_file).read_bytes()
            _check_ca(ca, options.ca_file)
        certificate = key = None
        if options.cert_file is not None and options.key_file is not None:
            certificate = Path(options.cert_file).read_bytes()
            key = Path(options.key_file).read_bytes()
            _check_pair(options.cert_file, options.key_file)
        return seen, Material(ca, certificate, key)


async def pinned(material: Material, target: str, endpoint: tuple[str, int] | None) -> Material:
    """Return the material that trusts exactly the certificate which the server shows now.

    gRPC cannot skip verification. The certificate is fetched unverified and becomes the only
    trusted one, under the name it has. Raise TlsFailed, or Unavailable when nothing answers.
    """
    if endpoint is None:
        raise InvalidArgument(
            "BAD_TARGET", "skip_verification needs an address with one host and port."
        )
    try:
        pem = ssl.DER_cert_to_PEM_cert(await fetch_certificate(*endpoint))
        names = await names_of(*endpoint, pem)
    except ssl.SSLCertVerificationError as error:
        raise TlsFailed(
            "SERVER_CERTIFICATE_EXPIRED",
            f"{target}: {error.verify_message}; that is refused even where the issuer is not"
            " verified",
        ) from error
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            raise client_certificate_refused(target) from error
        raise TlsFailed(
            "SERVER_WITHOUT_TLS", f"{target} answers no TLS handshake ({error.reason or error})"
        ) from error
    except OSError as error:
        raise Unavailable(
            "SERVER_UNREACHABLE", f"no answer from {target}: {error.strerror or 'timed out'}"
        ) from error
    if not names:
        raise TlsFailed("SERVER_NAME_MISMATCH", f"the certificate of {target} has no name at all")
    # A wildcard is no name; anything in its place matches it.
    name = names[0].replace("*", "any", 1)
    return Material(pem.encode(), material.certificate, material.key, name)


def _check_ca(pem: bytes, path: Path) -> None:
    """Raise InvalidArgument unless there is a certificate: gRPC would say nothing useful."""
    found = [match.decode() for match in _CERTIFICATE.findall(pem)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata="\n".join(found))
    except (ValueError, ssl.SSLError) as error:  # ValueError: there is none at all
        raise _bad(f"{path} holds no CA certificates in PEM; name the file of the CA") from error


def _check_pair(cert_file: Path, key_file: Path) -> None:
    """Raise InvalidArgument unless the key belongs to the certificate: gRPC ends the process for
    some of these.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _bad(
                f"{key_file} is not the key of {cert_file}; give those of one pair"
            ) from error
        raise _bad(
            f"{cert_file} and {key_file} are not a certificate and a key in PEM; give both"
        ) from error


def _no_password() -> str:
    """Refuse an encrypted key, for which OpenSSL would ask at the terminal."""
    raise InvalidArgument(
        "BAD_TLS_FILES", "The private key is encrypted; give it without a passphrase."
    )


def _bad(text: str) -> InvalidArgument:
    return InvalidArgument("BAD_TLS_FILES", text)
