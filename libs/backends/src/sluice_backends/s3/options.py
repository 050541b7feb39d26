"""What the S3 object store is told: where it is, who asks, and how long an answer may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from sluice_core.configuration import ConfigurationError


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Waits grow from `wait_initial_seconds` by doubling to `wait_max_seconds`, and are jittered.

    No attempt begins after `total_seconds`. One that runs then goes on: a part on a thin line is
    not given up for being slow, only for standing still (the store's own limit).
    """

    attempts: int = 6
    total_seconds: float = 30.0
    wait_initial_seconds: float = 0.1
    wait_max_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """Opens when, of the last `window` calls and at least `min_calls`, the given share failed or
    waited longer than `slow_seconds`."""

    window: int = 10
    min_calls: int = 5
    failed_share: float = 0.5
    slow_share: float = 0.5
    slow_seconds: float = 5.0
    open_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_calls <= self.window:
            raise ValueError("min_calls must be between 1 and window.")


@dataclass(frozen=True, slots=True)
class S3Options:
    """One S3 service and the account that uses it.

    Args:
        endpoint_url: None for AWS itself; for every other store its http(s) URL. UNSIGNED-PAYLOAD
            is sent over both, so plain http belongs in a trusted network.
        access_key, secret_key, session_token: None for botocore's own search: environment, shared
            file, container or instance role.
        public_endpoint_url: how browsers reach the store, when not by `endpoint_url`; presigned
            URLs name it.
        path_style: `endpoint/bucket/key` instead of `bucket.endpoint/key`; None: whenever there is
            an `endpoint_url`.
        max_connections: calls at once that are no reads; more wait for their turn.
        max_reads: reads at once. Apart from the others, for a reader may be slow for as long as it
            likes, and must not keep parts from being stored.
        stall_timeout_seconds: an attempt ends when the store stands still this long: takes no
            piece of 256 KiB, sends no byte. A part may take any time in all.
        complete_timeout_seconds: the same for putting an object together, which S3 may spend
            minutes on.
        ca_bundle: file of the certificate authorities to believe instead of the system's.
        probe_prefix: where the store is tried out, see `capabilities.py`.

    Raises `ConfigurationError`.
    """

    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    public_endpoint_url: str | None = None
    path_style: bool | None = None
    max_connections: int = 64
    max_reads: int = 64
    connect_timeout_seconds: float = 5.0
    stall_timeout_seconds: float = 10.0
    complete_timeout_seconds: float = 60.0
    ca_bundle: str | None = None
    probe_prefix: str = "sluice-probe"
    retry: RetryOptions = field(default_factory=RetryOptions)
    breaker: BreakerOptions = field(default_factory=BreakerOptions)

    def __post_init__(self) -> None:
        for name, url in (
            ("endpoint", self.endpoint_url),
            ("public endpoint", self.public_endpoint_url),
        ):
            parts = urlsplit(url or "http://default")
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ConfigurationError(
                    f"the {name} of the object store must be a URL like http://minio:9000, "
                    "without a user in it"
                )
        if (self.access_key is None) != (self.secret_key is None):
            raise ConfigurationError(
                "the object store's access key and secret key come together: set both, or neither "
                "to use the role of this machine"
            )
        if self.max_connections < 1 or self.max_reads < 1:
            raise ConfigurationError("the object store needs at least one connection of each kind")
        if min(self.connect_timeout_seconds, self.stall_timeout_seconds) <= 0:
            raise ConfigurationError("the object store's timeouts must be more than nothing")

    @property
    def addressing_style(self) -> str:
        path_style = self.endpoint_url is not None if self.path_style is None else self.path_style
        return "path" if path_style else "virtual"
