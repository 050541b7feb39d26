"""Certificates, keys and authorities from files, read again when they change."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from sluice_common.settings.security import Tls
from sluice_core.configuration import ConfigurationError

_FRESH_SECONDS: Final = 2.0
"""A younger file may change again without a new time stamp, so it is read at every request."""
_RETRY_SECONDS: Final = 1.0
"""Interval at which files that could not be used are read again though nothing changed: their
certificate may become valid."""

_log = structlog.get_logger(__name__)

Stamp = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class TlsFile:
    """A file and the setting that names it."""

    setting: str
    path: Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files of one end of a connection. A certificate comes with its key."""

    certificate: TlsFile | None = None
    key: TlsFile | None = None
    authorities: TlsFile | None = None
    """Authorities that the other end's certificate has to come from."""

    @classmethod
    def of_server(cls, tls: Tls) -> TlsFiles:
        """Return the files of the servers of this process."""
        return cls(*_own(tls), _file("SLUICE_TLS__CLIENT_CA_FILE", tls.client_ca_file))

    @classmethod
    def of_calls(cls, tls: Tls) -> TlsFiles:
        """Return the files for calls to other Sluice services."""
        return cls(*_own(tls), _file("SLUICE_TLS__CA_FILE", tls.ca_file))

    def present(self) -> tuple[TlsFile, ...]:
        """Return the files that are set."""
        return tuple(one for one in (self.certificate, self.key, self.authorities) if one)


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """Content of the files, which fits together. `expires_at`: of the certificate, Unix seconds."""

    chain: bytes | None
    key: bytes | None = field(repr=False)
    authorities: bytes | None
    expires_at: float | None


class RotatingMaterial:
    """The newest usable content of TLS files. Safe to use from any thread.

    Files that are missing, half written or do not fit together are logged once, and the last good
    content stays in use.

    Args:
        clock: Unix seconds, for the validity of certificates.
        monotonic: seconds, for the interval between attempts.

    Raise `ConfigurationError` if the files cannot be used at first.
    """

    def __init__(
        self,
        files: TlsFiles,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.files = files
        self._clock = clock
        self._monotonic = monotonic
        self._reading = threading.Lock()
        self._stamps = _stamps(files)
        self._settled = self._is_settled()
        self._failure: str | None = None
        self._retry_at = 0.0
        self._material = read_material(files, clock())

    def current(self) -> TlsMaterial:
        """Return the newest usable content; the same object until it changes.

        Without a change this costs one `stat` per file, some 20 µs. A reader that comes while
        another one reads does not wait: it gets the last good content.
        """
        if self._reading.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._reading.release()
        return self._material

    def _refresh(self) -> None:
        stamps = _stamps(self.files)
        if stamps == self._stamps and self._settled and not self._is_retry_due():
            return
        # Stamps before content: a change during the read shows as another stamp next time.
        self._stamps = stamps
        self._settled = self._is_settled()
        try:
            material = read_material(self.files, self._clock())
        except ConfigurationError as error:
            self._report(str(error))
            return
        except Exception as error:  # noqa: BLE001 - the last good content must stay in use
            self._report(f"unexpected {type(error).__name__}", defect=error)
            return
        self._failure = None
        if material != self._material:
            self._material = material
            _log.info("tls_files.reloaded", expires_at=material.expires_at)

    def _report(self, failure: str, defect: Exception | None = None) -> None:
        """Log a failed read, unless the read before it failed alike; retry later."""
        self._retry_at = self._monotonic() + _RETRY_SECONDS
        if failure == self._failure:
            return
        self._failure = failure
        _log.log(
            logging.WARNING if defect is None else logging.ERROR,
            "tls_files.reload_failed",
            error=failure,
            advice="the last good certificate stays in use",
            exc_info=defect,
        )

    def _is_retry_due(self) -> bool:
        return self._failure is not None and self._monotonic() >= self._retry_at

    def _is_settled(self) -> bool:
        changed_at = max((stamp[1] for stamp in self._stamps if stamp), default=0) / 1e9
        return time.time() - changed_at > _FRESH_SECONDS


def read_material(files: TlsFiles, now: float) -> TlsMaterial:
    """Read and check the files. `now`: Unix seconds.

    Raise `ConfigurationError` in one line for a file that is missing, unreadable or no PEM, a
    certificate that is not valid now, and a key that does not belong to it.
    """
    # Imported with the first file: a process without TLS saves some ten megabytes.
    from sluice_common.security.tls.pem import (
        PemError,
        check_authorities,
        check_certificate,
        check_key,
    )

    chain = key = authorities = expires_at = None
    file: TlsFile | None = None
    try:
        if (file := files.certificate) is not None:
            chain = _read(file)
            certificate = check_certificate(chain, now)
            expires_at = certificate.not_valid_after_utc.timestamp()
            if (file := files.key) is not None:
                key = _read(file)
                check_key(key, certificate)
        if (file := files.authorities) is not None:
            authorities = _read(file)
            check_authorities(authorities, now)
    except PemError as error:
        assert file is not None
        raise ConfigurationError(f"{file.setting}: {error}") from error
    return TlsMaterial(chain, key, authorities, expires_at)


def _read(file: TlsFile) -> bytes:
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{file.setting}: the file cannot be read ({error.strerror}); correct its path or its"
            " permissions"
        ) from error


def _stamps(files: TlsFiles) -> tuple[Stamp | None, ...]:
    return tuple(_stamp(file.path) for file in files.present())


def _stamp(path: Path) -> Stamp | None:
    # Follows symbolic links, which Kubernetes swaps when a mounted secret changes.
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _own(tls: Tls) -> tuple[TlsFile | None, TlsFile | None]:
    return (
        _file("SLUICE_TLS__CERT_FILE", tls.cert_file),
        _file("SLUICE_TLS__KEY_FILE", tls.key_file),
    )


def _file(setting: str, path: Path | None) -> TlsFile | None:
    return None if path is None else TlsFile(setting, path)
