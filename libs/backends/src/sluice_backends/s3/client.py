"""Opens botocore's client: its own retries off, its own checksums off, path or host addressing."""

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
from sluice_backends.s3.outgoing import OutgoingBody

S3Client = Any
"""botocore makes its clients out of data files; their types exist nowhere."""


@asynccontextmanager
async def open_client(options: S3Options, endpoint_url: str | None) -> AsyncIterator[S3Client]:
    """A client of this endpoint; no request is made here."""
    config = AioConfig(
        region_name=options.region,
        signature_version="s3v4",
        connect_timeout=options.connect_timeout_seconds,
        # Only the wait for an answer; `StallTimeout` covers the sending, and is the shorter one.
        read_timeout=max(options.stall_timeout_seconds, options.complete_timeout_seconds) + 1,
        max_pool_connections=options.max_connections + options.max_reads,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Ours is known before the request, or asked for explicitly.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": options.addressing_style,
            "payload_signing_enabled": False,
        },
        # botocore's own names system, libraries and features, and makes it anew, twice, for each
        # request: a quarter of what a request costs.
        user_agent=f"sluice/{version('sluice-common')}",
        # Its service descriptions are a megabyte of JSON, read in a thread that way.
        warm_up_loader_caches=True,
    )
    session = get_session()
    session.register_component("data_loader", _shared_loader())
    async with session.create_client(
        "s3",
        endpoint_url=endpoint_url,
        config=config,
        verify=options.ca_bundle,
        aws_access_key_id=_secret(options.access_key),
        aws_secret_access_key=_secret(options.secret_key),
        aws_session_token=_secret(options.session_token),
    ) as client:
        client.meta.events.register("before-sign.s3", _ask_first_or_not)
        yield client


@cache
def _shared_loader() -> Loader:
    """Return the loader of every session: it parses the service descriptions only once.

    Opening a client takes 12 ms of processor time instead of 90.
    """
    return create_loader()


def _ask_first_or_not(request: Any, **_: Any) -> None:
    """botocore asks before it sends whatever is a file: a round trip, which a small body is not
    worth where the last one was welcome."""
    body = request.data
    if isinstance(body, OutgoingBody) and not body.expects_continue:
        del request.headers["Expect"]


def _secret(value: Any) -> str | None:
    return None if value is None else value.get_secret_value()
