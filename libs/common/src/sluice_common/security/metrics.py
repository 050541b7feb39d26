"""Instruments of authentication by token."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class TokenMetrics:
    """Keys and failed checks. The interceptor counts accepted and refused calls."""

    def __init__(self, registry: CollectorRegistry) -> None:
        r = registry
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
