"""Options of an SQS queue."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

_REGION: Final = re.compile(
    r"(?:^|\.)sqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?$"
)
_DEFAULT_REGION: Final = "us-east-1"


@dataclass(frozen=True, slots=True)
class SqsOptions:
    """A queue and its credentials; see the settings for each field."""

    queue_url: str
    region: str | None = None
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    ca_bundle: str | None = None
    wait_seconds: int = 20
    visibility_seconds: int = 60

    @property
    def signing_region(self) -> str:
        found = _REGION.search(urlsplit(self.queue_url).hostname or "")
        return self.region or (found[1] if found else _DEFAULT_REGION)
