"""Options of the S3 object store: endpoint, credentials, limits and timeouts."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from sluice_core.configuration import ConfigurationError


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Exponential backoff with jitter from `wait_initial_seconds` to `wait_max_seconds`.

    No attempt starts after `total_seconds`. A running attempt continues: a part on a slow network
    is not cancelled for being slow, only for stalling (the store's own limit).
    """

    attempts: int = 6
    total_seconds: float = 30.0
    wait_initial_seconds: float = 0.1
    wait_max_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """Thresholds of the circuit breaker.

    It opens when the given share of the last `window` calls failed or waited longer than
    `slow_seconds`, once there were `min_calls`.
    """

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
        access_key, secret_key, session_token: None for botocore's credential chain: environment,
            shared file, container or instance role.
        public_endpoint_url: endpoint of presigned URLs, if browsers do not use `endpoint_url`.
        path_style: `endpoint/bucket/key` instead of `bucket.endpoint/key`; None means true if and
            only if `endpoint_url` is set.
        max_connections: limit of concurrent calls other than reads; further calls wait.
        max_reads: limit of concurrent reads. It is separate, because a reader may be arbitrarily
            slow and must not block the storing of parts.
        stall_timeout_seconds: an attempt ends when the store makes no progress for this long: it
            accepts no piece of 256 KiB and sends no byte. The total time of a part is unlimited.
        complete_timeout_seconds: the same for CompleteMultipartUpload, which may take S3 minutes.
        ca_bundle: file of trusted certificate authorities that replaces the system's.
        probe_prefix: key prefix of the capability probe, see `capabilities.py`.

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
            raise ConfigurationError(
                "the object store needs at least one connection of each kind; raise the limit"
            )
        if min(self.connect_timeout_seconds, self.stall_timeout_seconds) <= 0:
            raise ConfigurationError(
                "the object store's timeouts must be positive; correct the settings"
            )

    @property
    def addressing_style(self) -> str:
        path_style = self.endpoint_url is not None if self.path_style is None else self.path_style
        return "path" if path_style else "virtual"
