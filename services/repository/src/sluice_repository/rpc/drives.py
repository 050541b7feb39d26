"""Use cases of drives: naming rules, policy checks and creation."""

from __future__ import annotations

import re
from collections.abc import Collection

from sluice_core.access.actions import Action
from sluice_core.access.audit import AuditEntry, audited, drive_object, policy_object
from sluice_core.access.grants import Grantee
from sluice_core.errors import AlreadyExists, InvalidArgument, NotFound
from sluice_core.ports.catalogue import (
    POLICY_FIELDS,
    Catalogue,
    Drive,
    DrivePage,
    DrivePolicy,
)
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.uploads.model import MIB, MIN_PART_BYTES
from sluice_core.uploads.names import check_drive_name

DEFAULT_BUCKET = "sluice"
MAX_DRIVE_PART_BYTES = 64 * MIB

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # S3's rule for bucket names
_KEY_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()/-]{0,512}")  # S3's safe characters for keys
_STORAGE_CLASS = re.compile(r"[A-Z0-9_]{0,64}")
_ENCRYPTION = re.compile(r"[!-~]{0,255}")


class DriveRegistry:
    """The use cases of drives.

    Args:
        default_bucket: the bucket of drives that name none.
        auto_create: whether `get` creates an unknown drive with the defaults (standalone) instead
            of raising DRIVE_NOT_FOUND.
    """

    def __init__(
        self, catalogue: Catalogue, *, default_bucket: str = DEFAULT_BUCKET, auto_create: bool
    ) -> None:
        self._catalogue = catalogue
        self._default_bucket = default_bucket
        self._auto_create = auto_create

    async def get(
        self, tenant: str, name: str, *, create: bool = False, with_grants: bool = True
    ) -> DriveWithGrants:
        """Return the drive of an upload; with `create`, create it on first use under `auto_create`.

        The grants are left out unless `with_grants`. Raise `InvalidArgument` BAD_DRIVE_NAME,
        `NotFound` DRIVE_NOT_FOUND.
        """
        check_drive_name(name)
        try:
            return await self._get(tenant, name, with_grants=with_grants)
        except NotFound:
            if not (self._auto_create and create):
                raise
        try:
            audit = audited(Action.CREATE_DRIVE, drive_object(name))
            return DriveWithGrants(
                await self._create(
                    tenant, name, self._default_bucket, "", DrivePolicy(), None, audit
                )
            )
        except AlreadyExists:
            # A concurrent caller created it with other settings: those stand.
            return await self._get(tenant, name, with_grants=with_grants)

    async def find(self, tenant: str, name: str) -> Drive:
        """Return the drive without ever creating it. Raise the same errors as `get`."""
        return await self._catalogue.get_drive(tenant, check_drive_name(name, "name"))

    async def _get(self, tenant: str, name: str, *, with_grants: bool) -> DriveWithGrants:
        drive = await self._catalogue.get_drive(tenant, name)
        if not with_grants:
            return DriveWithGrants(drive)
        return DriveWithGrants.of(drive, await self._catalogue.grants_of(tenant, name))

    async def reserve(self, tenant: str, name: str, upload_id: str, size: int) -> None:
        """Reserve room for an upload. Raise `ResourceExhausted` QUOTA_EXCEEDED."""
        await self._catalogue.reserve(tenant, name, upload_id, size)

    async def release(self, tenant: str, name: str, upload_id: str) -> None:
        await self._catalogue.release(tenant, upload_id, name)

    async def holds(self, tenant: str, name: str, path: str) -> bool:
        """Return whether a path of the drive has a node now. `path` is normalized."""
        try:
            await self._catalogue.find_node(tenant, name, path)
        except NotFound:
            return False
        return True

    async def create(
        self,
        tenant: str,
        name: str,
        bucket: str,
        key_prefix: str,
        policy: DrivePolicy,
        owner: Grantee | None = None,
        audit: AuditEntry | None = None,
    ) -> Drive:
        """Create a drive. Idempotent: the same call returns the same drive.

        `owner` gets the role OWNER on a new drive. Raise `InvalidArgument` for invalid values,
        `AlreadyExists` DRIVE_EXISTS.
        """
        check_drive_name(name, "name")
        return await self._create(
            tenant,
            name,
            _check_bucket(bucket) if bucket else self._default_bucket,
            _check_key_prefix(key_prefix),
            _check_policy(policy),
            owner,
            audit,
        )

    async def _create(
        self,
        tenant: str,
        name: str,
        bucket: str,
        key_prefix: str,
        policy: DrivePolicy,
        owner: Grantee | None,
        audit: AuditEntry | None,
    ) -> Drive:
        buckets = (bucket, "") if bucket == self._default_bucket else (bucket,)
        catalogue = self._catalogue
        if await catalogue.drives_overlapping(
            tenant, name, buckets, key_prefix
        ) and not await self._exists(tenant, name):
            raise InvalidArgument(
                "BAD_KEY_PREFIX",
                "Keys of this drive could collide with those of other drives in the bucket;"
                " choose another key prefix, or another bucket.",
                field="key_prefix",
            )
        return await catalogue.create_drive(
            tenant, name, bucket, key_prefix, policy, owner=owner, audit=audit
        )

    async def _exists(self, tenant: str, name: str) -> bool:
        try:
            await self._catalogue.get_drive(tenant, name)
        except NotFound:
            return False
        return True

    async def list(
        self, tenant: str, limit: int, after: str, visible_to: Collection[Grantee] | None = None
    ) -> DrivePage:
        return await self._catalogue.list_drives(tenant, limit, after, visible_to)

    async def update(
        self,
        tenant: str,
        name: str,
        policy: DrivePolicy,
        fields: frozenset[str],
        owner: Grantee | None = None,
        audit: AuditEntry | None = None,
    ) -> Drive:
        """Update these fields of the policy.

        Uploads in progress keep the policy that they began with. `owner` gets the role OWNER if
        the call closes an open drive. Raise `InvalidArgument`
        BAD_UPDATE_MASK, BAD_POLICY, `NotFound` DRIVE_NOT_FOUND.
        """
        check_drive_name(name, "name")
        if unknown := fields - POLICY_FIELDS:
            raise InvalidArgument(
                "BAD_UPDATE_MASK",
                f"The update mask names {len(unknown)} fields that a policy does not have; use"
                f" {', '.join(sorted(POLICY_FIELDS))}.",
                field="update_mask",
            )
        return await self._catalogue.update_drive(
            tenant, name, _check_policy(policy), fields, owner=owner, audit=audit
        )


def requested_policy_object(name: str, policy: DrivePolicy, fields: Collection[str]) -> str:
    """Return the object of an update that is not checked yet, for its refusal.

    Texts are left out: a caller may send anything. The entry of a successful update names the
    fields that changed.
    """
    requested = {field: getattr(policy, field) for field in POLICY_FIELDS.intersection(fields)}
    return policy_object(
        name, {field: None if type(one) is str else one for field, one in requested.items()}
    )


def _check_bucket(bucket: str) -> str:
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise InvalidArgument(
            "BAD_BUCKET",
            "A bucket name has 3 to 63 lower-case letters, digits, '.' or '-'.",
            field="bucket",
        )
    return bucket


def _check_key_prefix(prefix: str) -> str:
    """Return the prefix if it is valid.

    It precedes `{tenant}/{drive}/{node id}` verbatim, without a separator (rule 14).
    """
    segments = prefix.split("/")
    if (
        not _KEY_PREFIX.fullmatch(prefix)
        or any(segment in (".", "..") for segment in segments)
        or "" in segments[:-1]
        # The tenant follows: "a" and tenant "bc" would have the keys of "ab" and tenant "c".
        or segments[-1] != ""
    ):
        raise InvalidArgument(
            "BAD_KEY_PREFIX",
            "A key prefix has at most 512 letters, digits or any of !_.*'()-, with a single '/'"
            " after each segment, and does not begin with one.",
            field="key_prefix",
        )
    return prefix


def _check_policy(policy: DrivePolicy) -> DrivePolicy:
    if policy.part_bytes and not MIN_PART_BYTES <= policy.part_bytes <= MAX_DRIVE_PART_BYTES:
        raise InvalidArgument(
            "BAD_POLICY",
            f"part_bytes is {MIN_PART_BYTES} to {MAX_DRIVE_PART_BYTES}, or 0 for the server's"
            " default.",
            field="policy.part_bytes",
        )
    if not _STORAGE_CLASS.fullmatch(policy.storage_class):
        raise InvalidArgument(
            "BAD_POLICY",
            "A storage class is a name like STANDARD_IA, or empty.",
            field="policy.storage_class",
        )
    if not _ENCRYPTION.fullmatch(policy.encryption):
        raise InvalidArgument(
            "BAD_POLICY",
            "encryption has at most 255 printable ASCII characters without spaces.",
            field="policy.encryption",
        )
    return policy
