"""Fixtures: a bucket per test, a fault proxy, and stores on the server or the proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from sluice_backends.s3.metrics import S3Metrics
from sluice_backends.s3.options import BreakerOptions
from sluice_backends.s3.store import open_s3_store
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.model import ObjectRef
from support.s3_account import QUICK, S3Account
from support.s3_proxy import S3Proxy, s3_proxy
from support.s3_server import new_bucket, s3_account

OpenStore = Callable[..., Awaitable[ObjectStore]]


@pytest.fixture
def account() -> S3Account:
    return s3_account()


@pytest.fixture
async def bucket(account: S3Account) -> str:
    return await new_bucket()


@pytest.fixture
def ref(bucket: str) -> ObjectRef:
    return ObjectRef(bucket, "prefix/tenant/drive/node-1")


@pytest.fixture
async def proxy(account: S3Account) -> AsyncIterator[S3Proxy]:
    async with s3_proxy(account.endpoint_url) as opened:
        yield opened


@pytest.fixture
def metrics() -> S3Metrics:
    return S3Metrics()


@pytest.fixture
async def open_store(account: S3Account, metrics: S3Metrics) -> AsyncIterator[OpenStore]:
    """Return a function that opens a store with changed options until the end of the test."""
    async with AsyncExitStack() as stack:

        async def opened(**changes: Any) -> ObjectStore:
            return await stack.enter_async_context(
                open_s3_store(account.options(**changes), metrics)
            )

        yield opened


@pytest.fixture
async def store(open_store: OpenStore, bucket: str) -> ObjectStore:
    store = await open_store()
    await store.check(bucket)
    return store


@pytest.fixture
async def through_proxy(open_store: OpenStore, proxy: S3Proxy, bucket: str) -> ObjectStore:
    """Return a checked store behind the proxy with a stall timeout of 2 s and no breaker."""
    store = await open_store(
        endpoint_url=proxy.url,
        stall_timeout_seconds=2.0,
        retry=replace(QUICK, total_seconds=30.0),
        breaker=BreakerOptions(window=1000, min_calls=1000),
    )
    await store.check(bucket)
    proxy.requests.clear()
    return store
