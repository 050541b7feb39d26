"""The address of an S3 server for tests, and the keys of its administrator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr

from sluice_backends.s3.options import RetryOptions, S3Options

QUICK = RetryOptions(attempts=4, total_seconds=5.0, wait_initial_seconds=0.01, wait_max_seconds=0.1)


@dataclass(frozen=True, slots=True)
class S3Account:
    """The address of a server and the keys of its administrator."""

    endpoint_url: str
    access_key: str
    secret_key: str
    kind: str
    ca_file: str | None = None
    """Authority of a server with TLS."""

    def options(self, **changes: Any) -> S3Options:
        options = S3Options(
            endpoint_url=self.endpoint_url,
            access_key=SecretStr(self.access_key),
            secret_key=SecretStr(self.secret_key),
            ca_bundle=self.ca_file,
            retry=QUICK,
        )
        return replace(options, **changes)

    def settings(self) -> dict[str, str]:
        """Return the environment variables of a service that uses this server."""
        settings = {
            "SLUICE_S3__ENDPOINT_URL": self.endpoint_url,
            "SLUICE_S3__ACCESS_KEY": self.access_key,
            "SLUICE_S3__SECRET_KEY": self.secret_key,
        }
        if self.ca_file is not None:
            settings["SLUICE_S3__CA_BUNDLE"] = self.ca_file
        return settings
