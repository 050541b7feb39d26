"""botocore client without its own retries and checksums, with path or host addressing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from botocore.loaders import Loader, create_loader  # type: ignore[import-untyped]

from sluice_backends.s3.options import S3Options
from sluice_backends.s3.request_body import RequestBody

S3Client = Any
"""botocore generates its clients from data files; they have no static types."""


S3Session = Any
"""Holds the credentials that its clients share; botocore has no static types."""


def new_session(options: S3Options) -> S3Session:
    """Return a session with the credentials of the options, or with botocore's chain."""
    session = get_session()
    session.register_component("data_loader", _shared_loader())
    if options.access_key is not None:
        session.set_credentials(
            _secret(options.access_key), _secret(options.secret_key), _secret(options.session_token)
        )
    return session


@asynccontextmanager
async def open_client(
    options: S3Options, session: S3Session | None = None
) -> AsyncIterator[S3Client]:
    """Yield a client of the session, or of a new one. No request is sent."""
    config = AioConfig(
        region_name=options.region,
        signature_version="s3v4",
        connect_timeout=options.connect_timeout_seconds,
        # Bounds only the wait for a response. `StallTimeout` covers sending and is shorter.
        read_timeout=max(options.stall_timeout_seconds, options.complete_timeout_seconds) + 1,
        max_pool_connections=options.max_connections + options.max_reads,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # The caller sends a known checksum, or requests one explicitly.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": options.addressing_style,
            "payload_signing_enabled": False,
        },
        # botocore's default lists system, libraries and features. It is rebuilt twice per request,
        # which is a quarter of the cost of a request.
        user_agent=f"sluice/{version('sluice-common')}",
        # Read the service descriptions, a megabyte of JSON, in a thread.
        warm_up_loader_caches=True,
    )
    async with (session or new_session(options)).create_client(
        "s3", endpoint_url=options.endpoint_url, config=config, verify=options.ca_bundle
    ) as client:
        client.meta.events.register("before-sign.s3", _drop_expect_header)
        yield client


def endpoint_of(client: S3Client) -> str:
    """Return the URL of a client's endpoint, without a bucket; botocore knows those of AWS."""
    url: str = client.meta.endpoint_url
    # Its name for us-east-1, which is in no host; requests go to the region's.
    return url.replace(".aws-global.", f".{client.meta.region_name}.")


@cache
def _shared_loader() -> Loader:
    """Return the loader shared by all sessions; it parses the service descriptions once.

    Opening a client takes 12 ms of CPU time instead of 90 ms.
    """
    return create_loader()


def _drop_expect_header(request: Any, **_: Any) -> None:
    """Remove the `Expect: 100-continue` that botocore adds for file bodies.

    It costs a round trip, which does not pay for a small body when the last one was accepted.
    """
    body = request.data
    if isinstance(body, RequestBody) and not body.expects_continue:
        del request.headers["Expect"]


def _secret(value: Any) -> str | None:
    return None if value is None else value.get_secret_value()
