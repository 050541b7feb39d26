"""Instruments of authentication by token and of TLS, exported where these are switched on."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from sluice_backends.instruments import Instruments, Registry


class TokenMetrics(Instruments):
    """Keys and failed checks. The interceptor counts accepted and refused calls."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.failed_checks = Counter(
            "sluice_auth_failed_checks",
            "Refused tokens, by the first check that failed",
            ("check",),
            registry=r,
        )
        self.verified = Counter(
            "sluice_auth_verified",
            "Tokens whose signature and claims were verified; the others were in the cache",
            registry=r,
        )
        self.keys = Gauge("sluice_auth_keys", "Usable keys that verify tokens", registry=r)
        self.keys_refreshed = Gauge(
            "sluice_auth_keys_refreshed_timestamp_seconds",
            "Time of the last successful refresh of the keys; 0 before the first",
            registry=r,
        )
        self.key_refresh_failures = Counter(
            "sluice_auth_keys_refresh_failures",
            "Failed refreshes of the keys; the last good ones stay in use",
            registry=r,
        )


class TlsMetrics(Instruments):
    """The certificate in use."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        self.certificate_expiry = Gauge(
            "sluice_tls_certificate_expiry_timestamp_seconds",
            "End of validity of the TLS certificate in use, Unix time",
            registry=self.registry,
        )
