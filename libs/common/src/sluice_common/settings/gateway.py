"""Settings of the gateway (docs/gateway.md)."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PlainSerializer, PlainValidator, PositiveInt, field_validator
from pydantic_settings import NoDecode

from sluice_common.settings.groups import Group, Seconds
from sluice_core.configuration import ConfigurationError
from sluice_core.photos.model import MAX_PHOTO_BYTES
from sluice_core.ports.catalogue import MAX_DOWNLOAD_URL_SECONDS


def _items(value: object) -> tuple[str, ...]:
    """Return the items of a comma-separated list or of a collection."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple | set | frozenset):
        raise ConfigurationError("must be a list, separated by commas")
    return tuple(dict.fromkeys(text for item in items if (text := str(item).strip())))


def _to_origins(value: object) -> tuple[str, ...]:
    return tuple(_checked_origin(item) for item in _items(value))


def _checked_origin(text: str) -> str:
    """Return an origin as browsers send it. `*` is none: each origin is named."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigurationError("holds a URL that is not valid") from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or "*" in host or parts.username:
        raise ConfigurationError("takes URLs such as https://photos.example.com")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError("takes URLs without a path, such as https://photos.example.com")
    shown = f"[{host}]" if ":" in host else host
    is_default = port in (None, 80 if parts.scheme == "http" else 443)
    return f"{parts.scheme}://{shown}" if is_default else f"{parts.scheme}://{shown}:{port}"


def _to_networks(value: object) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(item)) for item in _items(value))
    except ValueError:
        raise ConfigurationError("takes IP addresses and networks, such as 10.0.0.0/8") from None


Origins = Annotated[
    tuple[str, ...],
    NoDecode,
    PlainValidator(_to_origins),
    PlainSerializer(list, return_type=list[str]),
]
Networks = Annotated[
    tuple[str, ...],
    NoDecode,
    PlainValidator(_to_networks),
    PlainSerializer(list, return_type=list[str]),
]
Waiting = Annotated[int, Field(ge=0, le=10**9)]
PerPeriod = Annotated[int, Field(ge=0, le=10**6)]


class Gateway(Group):
    """The HTTP API and its accounts."""

    public_url: str | None = None
    """URL under which clients reach the gateway, and issuer of its tokens; unset: its address."""
    objects_url: str | None = None
    """URL under which clients reach the object listener of `sluice serve`; unset: its address."""
    origins: Origins = ()
    """Further origins whose pages may use the API (CORS)."""
    object_origins: Origins = ()
    """Origins of the object store, to which pages send photos."""
    trusted_proxies: Networks = ()
    """Proxies whose X-Forwarded-For and X-Forwarded-Proto count."""
    environment: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")] = "local"
    """Begins the object keys of users."""
    keys_file: Path | None = None
    """File with the keys that sign tokens, shared by all replicas; unset: in the data directory."""
    algorithm: Literal["EdDSA", "RS256"] = "EdDSA"
    """Of new keys."""
    key_rotation_days: Annotated[int, Field(ge=1, le=365)] = 30
    access_token_seconds: Annotated[Seconds, Field(ge=60, le=3600)] = 900.0
    refresh_token_days: Annotated[PositiveInt, Field(le=365)] = 30
    """How long a session may be idle."""
    refresh_repeat_seconds: Annotated[float, Field(ge=0, le=60)] = 10.0
    """How long a refresh token may be used again whose successor nobody has used; 0: never."""
    pair_guesses_per_minute: PerPeriod = 10
    """Log-ins to one account from one address; 0 means no limit."""
    account_guesses_per_minute: PerPeriod = 60
    address_guesses_per_minute: PerPeriod = 300
    connections_per_address: PerPeriod = 1_000
    """Open connections of one address; 0: no limit."""
    jobs_per_minute: PerPeriod = 10
    """New upload jobs of one user; 0 means no limit."""
    progress_per_second: PerPeriod = 20
    """Posts of progress of one user; 0 means no limit."""
    max_waiting_photos: Waiting = 10_000
    """Photos in PROCESSING above which new jobs are refused for a while; 0 means no limit, also
    below."""
    max_waiting_events: Waiting = 10_000
    """The same for events in Kafka that the processors have not handled."""
    max_waiting_messages: Waiting = 10_000
    """The same for messages in the queue of SQS."""
    max_database_wait_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    """The same for the wait of a call for a connection of the database."""
    pressure_retry_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """`Retry-After` of such a refusal."""
    max_photo_bytes: Annotated[int, Field(ge=1, le=5 * 1024**4)] = MAX_PHOTO_BYTES
    tus_above_bytes: Annotated[int, Field(ge=0, le=5 * 1024**4)] | None = None
    """Size above which the panel sends a photo by tus; unset: it sends none so."""
    upload_url_seconds: Annotated[int, Field(ge=60, le=MAX_DOWNLOAD_URL_SECONDS)] = 3600
    """Life of the URLs to which photos are sent."""
    download_url_seconds: Annotated[int, Field(ge=60, le=MAX_DOWNLOAD_URL_SECONDS)] = 3600
    """Life of the URLs of photos and thumbnails."""
    photo_arrival_seconds: Annotated[Seconds, Field(ge=2 * 3600, le=30 * 24 * 3600)] = 24 * 3600.0
    """Time for a photo to arrive after its client got the last URL; then it is FAILED. At least an
    hour more than any URL lives."""
    sweep_interval_seconds: Seconds = 60.0
    """Pause between two searches for photos that got stuck."""
    claim_seconds: Annotated[Seconds, Field(ge=1, le=3600)] = 60.0
    """How long a repeat with an Idempotency-Key waits for a first request whose process died."""
    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "gateway"
    """Consumer group of the projector: one for all replicas, another for each deployment."""

    @field_validator("public_url", "objects_url")
    @classmethod
    def _is_origin(cls, value: str | None) -> str | None:
        return None if value is None else _checked_origin(value)
