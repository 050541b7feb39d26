"""TLS of the servers of a process: gRPC credentials, HTTPS contexts, the expiry metric."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from sluice_backends.instruments import Registry
from sluice_common.security.metrics import TlsMetrics
from sluice_common.security.tls.files import RotatingMaterial, TlsFiles, TlsMaterial
from sluice_common.settings.security import Tls
from sluice_core.configuration import ConfigurationError

ContextSource = Callable[[], ssl.SSLContext]

_log = structlog.get_logger(__name__)


class ServerTls:
    """Certificate, key and client authorities of all servers of one process.

    Every handshake uses the newest usable files; connections in progress keep theirs.

    Raise `ConfigurationError` for files that cannot be used.
    """

    def __init__(self, tls: Tls) -> None:
        self._material = RotatingMaterial(TlsFiles.of_server(tls))
        self._require_client_cert = tls.require_client_cert

    def credentials(self, *, for_users: bool = False) -> grpc.ServerCredentials:
        """Return credentials for one gRPC listener, TLS 1.2 or newer.

        They remember what their listener has, so that every listener needs its own.

        Args:
            for_users: never require a client certificate.
        """
        given = self._material.current()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # gRPC calls this before every handshake, on a thread of its core; None: no change.
            nonlocal given
            material = self._material.current()
            if material is given:
                return None
            given = material
            return _configuration(material)

        fetcher: Any = fetch  # the stubs leave out that it may return None
        return grpc.dynamic_ssl_server_credentials(
            _configuration(given), fetcher, self._require_client_cert and not for_users
        )

    def https_contexts(self) -> ContextSource:
        """Return a function that returns the context for a new connection, TLS 1.2 or newer.

        It asks for no client certificate: probes and scrapers have none, and what they read
        belongs to no tenant.

        Raise `ConfigurationError` for files that OpenSSL refuses.
        """
        try:
            return _HttpsContexts(self._material).current
        except OSError as error:
            raise ConfigurationError(
                "SLUICE_TLS__CERT_FILE: OpenSSL cannot use it with SLUICE_TLS__KEY_FILE"
                f" ({error.strerror or type(error).__name__}); issue both anew"
            ) from error

    def expose_expiry(self, metrics: TlsMetrics) -> None:
        """Let the metric of the certificate's end be computed at each scrape."""
        metrics.certificate_expiry.set_function(lambda: self._material.current().expires_at or 0.0)


def open_server_tls(tls: Tls, registry: Registry) -> ServerTls | None:
    """Return the TLS of this process with its metric; None if no certificate is set.

    Raise `ConfigurationError` for files that cannot be used.
    """
    if tls.cert_file is None:
        return None
    opened = ServerTls(tls)
    opened.expose_expiry(registry.group(TlsMetrics))
    return opened


class _HttpsContexts:
    """The context of HTTPS, rebuilt when the files change."""

    def __init__(self, material: RotatingMaterial) -> None:
        self._material = material
        self._lock = threading.Lock()
        self._loaded = material.current()
        self._context = _https_context(material)

    def current(self) -> ssl.SSLContext:
        with self._lock:
            material = self._material.current()
            if material is not self._loaded:
                try:
                    self._context = _https_context(self._material)
                except OSError as error:
                    # The files change right now; the next connection tries again.
                    _log.info("tls_files.load_postponed", error=str(error))
                else:
                    self._loaded = material
            return self._context


def _https_context(material: RotatingMaterial) -> ssl.SSLContext:
    certificate, key = material.files.certificate, material.files.key
    assert certificate is not None
    assert key is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The module of Python takes paths only, no content.
    context.load_cert_chain(certificate.path, key.path)
    return context


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    assert material.key is not None
    assert material.chain is not None
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.chain)], root_certificates=material.authorities
    )
