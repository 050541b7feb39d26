"""The drive directory of the intake: existence, bucket, policies and grants of a drive."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, TypeVar

import grpc.aio
import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from sluice.repository.v1 import repository_pb2, repository_pb2_grpc
from sluice_common.rates.limiter import RATE_LIMITED
from sluice_common.rpc.errors import NOT_OURS, from_rpc_error
from sluice_common.security.refusals import TOKEN_EXPIRED
from sluice_core.access.decisions import Grants
from sluice_core.access.grants import Access, Grantee, GranteeKind, Role
from sluice_core.access.principal import current_authorization
from sluice_core.errors import (
    DeadlineExceeded,
    NotFound,
    ResourceExhausted,
    SluiceError,
    Unauthenticated,
    Unavailable,
)
from sluice_core.ports.catalogue import Drive, DrivePolicy
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.uploads.model import Integrity

_log = structlog.get_logger(__name__)

_MAX_RATE_DELAY_SECONDS: Final = 10.0
T = TypeVar("T")


class DriveDirectory(Protocol):
    async def get(
        self, tenant: str, name: str, *, create: bool = False, with_grants: bool = True
    ) -> DriveWithGrants:
        """Return the drive and its grants, at most a minute old while their source is available.

        Args:
            create: whether a directory that creates drives on first use may do so.
            with_grants: False if the caller needs no grants; they may then be missing.

        Raise `NotFound` DRIVE_NOT_FOUND, `Unavailable` when the source does not answer,
        `PermissionDenied` when it refuses the principal of the current request.
        """
        ...

    async def holds(self, tenant: str, name: str, path: str) -> bool:
        """Return whether the drive has a node at the normalized `path` now.

        Raise `Unavailable` when the source does not answer.
        """
        ...

    async def reserve(self, tenant: str, name: str, upload_id: str, size: int) -> None:
        """Reserve room for an upload of `size` bytes in all. A repeat reserves nothing twice.

        Raise `ResourceExhausted` QUOTA_EXCEEDED, `Unavailable` when the source does not answer.
        """
        ...

    async def release(self, tenant: str, name: str, upload_id: str) -> None:
        """Give the room of an upload that was not opened back. Idempotent."""
        ...


class DefaultDrives:
    """A directory in which every name is a drive with the defaults.

    For the combinations without a catalogue (phases 1 to 5).
    """

    async def get(
        self, tenant: str, name: str, *, create: bool = False, with_grants: bool = True
    ) -> DriveWithGrants:
        return DriveWithGrants(
            Drive(
                tenant=tenant,
                name=name,
                bucket="",
                key_prefix="",
                policy=DrivePolicy(),
                created_at=0.0,
                updated_at=0.0,
            )
        )

    async def holds(self, tenant: str, name: str, path: str) -> bool:
        return False  # no catalogue, no node

    async def reserve(self, tenant: str, name: str, upload_id: str, size: int) -> None:
        """No-op: no catalogue, no quota."""

    async def release(self, tenant: str, name: str, upload_id: str) -> None:
        """No-op."""


@dataclass(slots=True)
class _Entry:
    drive: DriveWithGrants
    fresh_until: float


class CachedDrives:
    """An LRU cache of drives that serves stale entries while the source is unavailable.

    Streams in the grace period after their token get stale entries too, with the grants that are
    known.

    A drive is cached for all callers, because it comes with all of its grants. The source decides
    only whether the caller that happens to fetch it may see it. A caller above its rate there is
    delayed before it is refused, and delays no other: its stream must not break.

    Args:
        source: the directory behind the cache.
        fresh_seconds: the time to live of an entry.
        max_drives: the capacity; the least recently used drives are evicted.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        source: DriveDirectory,
        *,
        fresh_seconds: float = 60.0,
        max_drives: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._fresh_seconds = fresh_seconds
        self._max_drives = max_drives
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._drops = 0

    def drop_all(self) -> None:
        """Forget all drives, because one of them has changed."""
        self._drops += 1
        self._entries.clear()

    async def get(
        self, tenant: str, name: str, *, create: bool = False, with_grants: bool = True
    ) -> DriveWithGrants:
        key = (tenant, name)
        if (drive := self._get_fresh(key)) is not None:
            return drive
        return await _within_rate(partial(self._get, key, create=create))

    async def _get(self, key: tuple[str, str], *, create: bool) -> DriveWithGrants:
        # Coalesce concurrent reads: a busy drive that becomes stale is fetched once.
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if (drive := self._get_fresh(key)) is not None:
                    return drive
                return await self._fetch(key, create=create)
        finally:
            if not lock.locked():
                self._locks.pop(key, None)

    async def holds(self, tenant: str, name: str, path: str) -> bool:
        return await self._source.holds(tenant, name, path)  # never cached: nodes change

    async def reserve(self, tenant: str, name: str, upload_id: str, size: int) -> None:
        await _within_rate(partial(self._source.reserve, tenant, name, upload_id, size))

    async def release(self, tenant: str, name: str, upload_id: str) -> None:
        await self._source.release(tenant, name, upload_id)

    def _get_fresh(self, key: tuple[str, str]) -> DriveWithGrants | None:
        entry = self._entries.get(key)
        if entry is None or self._clock() >= entry.fresh_until:
            return None
        self._entries.move_to_end(key)
        return entry.drive

    async def _fetch(self, key: tuple[str, str], *, create: bool) -> DriveWithGrants:
        tenant, name = key
        drops = self._drops
        try:
            drive = await self._source.get(tenant, name, create=create)
        except NotFound:
            self._entries.pop(key, None)
            raise
        except Unauthenticated as error:
            # The intake refuses new calls with an expired token. This one is a stream, which may
            # outlive its token by the grace period; `StreamExpiry` ends it.
            entry = self._entries.get(key)
            if entry is None or error.reason != TOKEN_EXPIRED:
                raise
            return entry.drive
        except (Unavailable, DeadlineExceeded) as error:
            # Not for any other error: a revoked caller could provoke those, such as RATE_LIMITED.
            entry = self._entries.get(key)
            if entry is None:
                raise
            _log.warning("drive.served_stale", drive=name, reason=error.reason)
            return entry.drive
        if drops != self._drops:
            return drive  # may be older than the change
        self._entries[key] = _Entry(drive, self._clock() + self._fresh_seconds)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_drives:
            self._entries.popitem(last=False)
        return drive


async def _within_rate(call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of the call; repeat it while the caller is above its rate.

    Raise RATE_LIMITED when that would take longer than 10 s.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _MAX_RATE_DELAY_SECONDS
    while True:
        try:
            return await call()
        except ResourceExhausted as error:
            delay = error.retry_after_seconds
            if error.reason != RATE_LIMITED or delay is None or loop.time() + delay > deadline:
                raise
        await asyncio.sleep(delay)


Metadata = tuple[tuple[str, str], ...]


def forwarded_credentials() -> Metadata:
    """Return the credentials of the current request, for a call on its caller's behalf."""
    authorization = current_authorization()
    return () if authorization is None else (("authorization", authorization),)


class GrpcDrives:
    """A directory that calls the repository's GetDrive and GetNode with the caller's credentials.

    Args:
        channel: the channel to the repository; owned by the caller.
        credentials: returns the request metadata that proves the caller to the repository.
        timeout_seconds: the deadline of one call.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        credentials: Callable[[], Metadata] = forwarded_credentials,
        timeout_seconds: float = 5.0,
    ) -> None:
        self._stub = repository_pb2_grpc.RepositoryServiceStub(channel)
        self._credentials = credentials
        self._timeout_seconds = timeout_seconds

    async def get(
        self, tenant: str, name: str, *, create: bool = False, with_grants: bool = True
    ) -> DriveWithGrants:
        try:
            response = await self._stub.GetDrive(
                repository_pb2.GetDriveRequest(name=name),
                timeout=self._timeout_seconds,
                metadata=self._credentials(),
            )
        except grpc.aio.AioRpcError as error:
            raise _to_sluice_error(error) from error
        drive = replace(_from_proto(tenant, response.drive), has_quota=response.has_quota)
        return DriveWithGrants(drive, _grants_from_proto(response.grants))

    async def holds(self, tenant: str, name: str, path: str) -> bool:
        place = repository_pb2.NodePath(drive=name, path=path)
        try:
            await self._stub.GetNode(
                repository_pb2.GetNodeRequest(location=place),
                timeout=self._timeout_seconds,
                metadata=self._credentials(),
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise _to_sluice_error(error) from error
        return True

    async def reserve(self, tenant: str, name: str, upload_id: str, size: int) -> None:
        request = repository_pb2.ReserveQuotaRequest(drive=name, upload_id=upload_id, bytes=size)
        try:
            await self._stub.ReserveQuota(
                request, timeout=self._timeout_seconds, metadata=self._credentials()
            )
        except grpc.aio.AioRpcError as error:
            raise _to_sluice_error(error) from error

    async def release(self, tenant: str, name: str, upload_id: str) -> None:
        request = repository_pb2.ReleaseQuotaRequest(drive=name, upload_id=upload_id)
        try:
            await self._stub.ReleaseQuota(
                request, timeout=self._timeout_seconds, metadata=self._credentials()
            )
        except grpc.aio.AioRpcError as error:
            raise _to_sluice_error(error) from error


def _to_sluice_error(error: grpc.aio.AioRpcError) -> SluiceError:
    """Return the repository's error; DRIVES_UNAVAILABLE if it did not answer or is unavailable.

    The message of gRPC itself is only logged, because it contains the repository's address.
    """
    answer = from_rpc_error(error)
    if answer.reason == NOT_OURS or isinstance(answer, Unavailable | DeadlineExceeded):
        return Unavailable(
            "DRIVES_UNAVAILABLE",
            "The server cannot look up the drive at the moment; try again.",
            retry_after_seconds=answer.retry_after_seconds or 1.0,
            log_detail=f"{error.code().name} {answer.reason}: {answer.message}",
        )
    return answer


_INTEGRITY = {
    repository_pb2.INTEGRITY_CRC: Integrity.CRC,
    repository_pb2.INTEGRITY_SHA256_BEFORE_VISIBLE: Integrity.SHA256_BEFORE_VISIBLE,
}


def _from_proto(tenant: str, drive: repository_pb2.Drive) -> Drive:
    policy = drive.policy
    return Drive(
        tenant=tenant,
        name=drive.name,
        bucket=drive.bucket,
        key_prefix=drive.key_prefix,
        policy=DrivePolicy(
            integrity=_INTEGRITY.get(policy.integrity, Integrity.SHA256_ASYNC),
            part_bytes=policy.part_bytes,
            require_uniform=policy.require_uniform,
            read_only=policy.read_only,
            storage_class=policy.storage_class,
            encryption=policy.encryption,
            drop_location=policy.drop_location,
            access=_access_from_proto(policy.access),
        ),
        created_at=_seconds(drive.created_at),
        updated_at=_seconds(drive.updated_at),
    )


def _access_from_proto(access: repository_pb2.Access.ValueType) -> Access:
    """Return who may use a drive.

    A repository of an earlier release does not set it. A value of a later one is taken for GRANTS,
    which allows least.
    """
    is_open = access in (repository_pb2.ACCESS_UNSPECIFIED, repository_pb2.ACCESS_TENANT)
    return Access.TENANT if is_open else Access.GRANTS


def _grants_from_proto(grants: Iterable[repository_pb2.Grant]) -> Grants:
    """Return the grants that this release knows."""
    known: dict[Grantee, Role] = {}
    for grant in grants:
        kind = grant.grantee.WhichOneof("grantee")
        role = _ROLES.get(grant.role)
        if kind is None or role is None:
            continue
        known[Grantee(GranteeKind(kind), getattr(grant.grantee, kind))] = role
    return known


_ROLES = {
    repository_pb2.ROLE_READER: Role.READER,
    repository_pb2.ROLE_WRITER: Role.WRITER,
    repository_pb2.ROLE_OWNER: Role.OWNER,
}


def _seconds(timestamp: Timestamp) -> float:
    return timestamp.seconds + timestamp.nanos / 1e9
