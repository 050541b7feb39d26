"""Catalogue port: the durable record of drives, nodes, object deletions and the outbox."""

from __future__ import annotations

# Size: the one list of what a catalogue does, with its guarantees.
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from sluice_core.access.audit import AuditEntry
from sluice_core.access.grants import Access, Grantee
from sluice_core.catalogue.processing import NodeResult, Processing, Recorded
from sluice_core.ports import LedgerEvent
from sluice_core.ports.audit import AuditCatalogue
from sluice_core.ports.grants import GrantCatalogue
from sluice_core.ports.inspection import InspectionCatalogue
from sluice_core.ports.outbox import Outbox
from sluice_core.ports.quotas import QuotaCatalogue
from sluice_core.uploads.model import Integrity, ObjectRef

MAX_DOWNLOAD_URL_SECONDS = 3600
"""Longest lifetime of a presigned URL; a deleted node's object is kept this long (rule 19)."""


@dataclass(frozen=True, slots=True)
class DrivePolicy:
    integrity: Integrity = Integrity.SHA256_ASYNC
    part_bytes: int = 0
    """0 means the server's default."""
    require_uniform: bool = False
    read_only: bool = False
    storage_class: str = ""
    encryption: str = ""
    drop_location: bool = False
    """Neither store nor show where pictures were taken."""
    access: Access = Access.TENANT


POLICY_FIELDS = frozenset(one.name for one in fields(DrivePolicy))


@dataclass(frozen=True, slots=True)
class Drive:
    tenant: str
    name: str
    bucket: str
    key_prefix: str
    policy: DrivePolicy
    created_at: float
    updated_at: float
    has_quota: bool = False
    """Whether the drive or its tenant has a quota. Only `get_drive` answers it."""

    @property
    def access(self) -> Access:
        return self.policy.access


@dataclass(frozen=True, slots=True)
class Node:
    node_id: str
    tenant: str
    drive: str
    path: str
    size: int
    content_type: str
    crc32c: int
    sha256: bytes | None
    metadata: Mapping[str, str]
    object: ObjectRef
    version: int
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class FolderPage:
    """Nodes in one folder of several drives."""

    nodes: Sequence[Node]
    last_drive: int
    """Row id of the last drive that was searched; 0 when it was the last one of all."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Node that may need processing, with its latest result."""

    node: Node
    etag: str | None
    """ETag of the processed content; None without a result."""
    reason: str
    """Reason of a FAILED result, else empty."""


@dataclass(frozen=True, slots=True)
class NodeCommit:
    """Finished upload to commit as a node (rule 19)."""

    upload_id: str
    node_id: str
    tenant: str
    drive: str
    path: str
    size: int
    content_type: str
    crc32c: int
    sha256: bytes | None
    metadata: Mapping[str, str]
    object: ObjectRef
    if_absent: bool
    integrity: Integrity
    ledger_events: Sequence[LedgerEvent] = field(default_factory=tuple)
    """Unpublished ledger events of the upload; they enter the outbox before UploadCompleted."""
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class CommitOutcome:
    """Result of a commit. `created` is False for a replay: the node exists, nothing changed."""

    created: bool
    superseded_node_id: str = ""


@dataclass(frozen=True, slots=True)
class NodePage:
    nodes: tuple[Node, ...]
    next_after: str


@dataclass(frozen=True, slots=True)
class DrivePage:
    drives: tuple[Drive, ...]
    next_after: str


@dataclass(frozen=True, slots=True)
class ObjectDeletion:
    """Unreferenced object to be deleted at or after `not_before`."""

    deletion_id: int
    object: ObjectRef
    not_before: float


@dataclass(frozen=True, slots=True)
class ObjectIntent:
    """Record that a worker is about to create an object (rule 13)."""

    upload_id: str
    tenant: str
    object: ObjectRef
    multipart_id: str
    created_at: float


class DriveCatalogue(Protocol):
    """Drives and their policies."""

    async def create_drive(
        self,
        tenant: str,
        name: str,
        bucket: str,
        key_prefix: str,
        policy: DrivePolicy,
        *,
        owner: Grantee | None = None,
        audit: AuditEntry | None = None,
    ) -> Drive:
        """Create a drive; raise `AlreadyExists` DRIVE_EXISTS for a different one of this name.
        `owner` gets the role OWNER on a new drive, in the same transaction. `audit` gets what
        differs from the default policy as its object, and that grant an entry of its own.
        """
        ...

    async def get_drive(self, tenant: str, name: str) -> Drive:
        """Return the drive; raise `NotFound` DRIVE_NOT_FOUND."""
        ...

    async def drives_named(self, name: str, tenants: Sequence[str]) -> Sequence[Drive]:
        """Return the drives of this name that belong to one of these tenants."""
        ...

    async def drives_overlapping(
        self, tenant: str, name: str, buckets: Sequence[str], key_prefix: str
    ) -> Sequence[Drive]:
        """Return drives of other tenants in these buckets whose keys overlap with such a drive's.

        They overlap when its `{key_prefix}{tenant}/{name}/` lies inside another tenant's
        `{key_prefix}{tenant}/`, or another drive's prefix lies inside its own.
        """
        ...

    async def list_drives(
        self, tenant: str, limit: int, after: str, visible_to: Collection[Grantee] | None = None
    ) -> DrivePage:
        """Return drives by name; with `visible_to` those open to the tenant or granted to these."""
        ...

    async def update_drive(
        self,
        tenant: str,
        name: str,
        policy: DrivePolicy,
        fields: frozenset[str] = POLICY_FIELDS,
        *,
        owner: Grantee | None = None,
        audit: AuditEntry | None = None,
    ) -> Drive:
        """Set these fields of the drive's policy, all of them by default.

        `owner` gets the role OWNER, in the same transaction, if this call closes a drive that was
        open to the tenant. `audit` gets the new values of what changes as its object, and that
        grant an entry of its own. No-op in the log if nothing changes.
        """
        ...

    async def delete_drive(
        self, tenant: str, name: str, *, audit: AuditEntry | None = None
    ) -> None:
        """Delete a drive with its grants and its quota, and free its name.

        No commit can add a node afterwards. Scheduled deletions and intents of its objects stay.
        Raise `FailedPrecondition` DRIVE_NOT_EMPTY for a drive with live nodes.
        """
        ...


class NodeCatalogue(Protocol):
    """Nodes and paths (rule 19), and the SHA-256 computed afterwards (rule 20)."""

    async def commit_node(self, commit: NodeCommit) -> CommitOutcome:
        """Commit a node (rule 19), in one transaction.

        Insert the node if absent under the lock of its path row, turn a superseded node into a
        tombstone with its object deletion and NodeDeleted, add the ledger events and then
        UploadCompleted to the outbox, delete the intent row, turn the reservation into usage.

        Raise `AlreadyExists` PATH_EXISTS under if_absent; `Aborted` FENCED when the intent was
        cleared, because the upload has ended and the commit is late; `ResourceExhausted`
        QUOTA_EXCEEDED for a node that needs more room than was reserved and than there is.
        """
        ...

    async def adopt_object(self, commit: NodeCommit) -> CommitOutcome | None:
        """Commit a node for an object without an upload, in the transaction of `commit_node`.

        The upload id is derived from the node id. Return None without a change while an upload's
        intent names the object: that upload commits the node. Intents of multiparts through
        presigned URLs (`direct_multipart_id`) are none of an upload's; they stay for the sweeper,
        since multiparts of former attempts may be open. A quota does not refuse it.
        """
        ...

    async def get_node(self, tenant: str, node_id: str) -> Node:
        """Return the node; raise `NotFound` NODE_NOT_FOUND, also for tombstones."""
        ...

    async def find_node(self, tenant: str, drive: str, path: str) -> Node: ...

    async def list_nodes(
        self, tenant: str, drive: str, path_prefix: str, limit: int, after: str
    ) -> NodePage:
        """Return live nodes by path (byte order), starting after the path `after`."""
        ...

    async def nodes_in_folder(
        self, folder: str, before: float, after_drive: int, drives: int, limit: int
    ) -> FolderPage:
        """Return at most `limit` live nodes in a folder of the next drives, of all tenants.

        Args:
            folder: ends with a slash.
            before: Unix seconds; younger nodes are left out.
            after_drive: row id of the drive before the first one; 0 begins.
            drives: how many drives to search. The cost does not grow with their other nodes.
        """
        ...

    async def update_node(
        self,
        tenant: str,
        node_id: str,
        metadata: Mapping[str, str],
        if_version: int,
        *,
        audit: AuditEntry | None = None,
    ) -> Node:
        """Replace the metadata; raise `Aborted` VERSION_CONFLICT when if_version > 0 differs."""
        ...

    async def delete_node(
        self,
        tenant: str,
        node_id: str,
        *,
        only_tombstone: bool = False,
        audit: AuditEntry | None = None,
    ) -> None:
        """Turn the node into a tombstone, free its path, add its object deletion and NodeDeleted.

        No-op for a tombstone; raise `NotFound` for an unknown id, and with `only_tombstone` for a
        live node too.
        """
        ...

    async def nodes_without_sha256(self, limit: int, offset: int = 0) -> Sequence[Node]:
        """Return live nodes under the policy sha256_async without a SHA-256, of all tenants.

        Oldest first, starting at the offset.
        """
        ...

    async def record_sha256(self, node_id: str, sha256: bytes) -> bool:
        """Set the SHA-256 and add NodeVerified; False when it is set or the node is gone."""
        ...


class ProcessingCatalogue(Protocol):
    """Results of the processor."""

    async def announce_thumbnails(self, node_id: str, objects: Sequence[ObjectRef]) -> bool:
        """Record objects before they are written for a live node.

        From then on they are deleted with the node, even if the writer crashes. Idempotent; return
        False without a change when the node is gone.
        """
        ...

    async def candidates(self, node_ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Return the live ones of these nodes, of all tenants, with their latest results."""
        ...

    async def record_processed(
        self,
        tenant: str,
        node_id: str,
        processing: Processing,
        *,
        sha256: bytes | None = None,
        trace_parent: str = "",
    ) -> Recorded:
        """Record one result for one content, with its thumbnails and NodeProcessed or
        NodeProcessingFailed, in one transaction.

        Idempotent by (node id, ETag): a second result for the same content is REPEATED, except
        that PROCESSED replaces FAILED. Former thumbnails of the node that this result does not
        name are scheduled for deletion. `sha256` is set, with NodeVerified, if the node has none
        (rule 20). The location is dropped if the drive's policy requires it.
        """
        ...

    async def record_all_processed(self, results: Sequence[NodeResult]) -> Sequence[Recorded]:
        """Record several results as `record_processed` does, in one transaction; no node twice.

        Return the outcomes in the order of the results.
        """
        ...

    async def processing_of(self, tenant: str, node_ids: Sequence[str]) -> Mapping[str, Processing]:
        """Return the results of these nodes, for live nodes of the tenant that have one."""
        ...


class ObjectCatalogue(Protocol):
    """Object intents and scheduled deletions, so that no object is orphaned (rules 13, 26)."""

    async def record_intent(self, intent: ObjectIntent) -> None:
        """Insert an intent, or set the multipart id of the existing one.

        The key is (upload id, object), so that a reused upload id has a separate intent.
        """
        ...

    async def clear_intent(self, upload_id: str, ref: ObjectRef | None = None) -> None:
        """Clear the intent for this object, or all intents of the upload id.

        Wait for a commit in progress; a later one is refused.
        """
        ...

    async def abandon_intent(self, intent: ObjectIntent) -> None:
        """Clear the intent and schedule its object for immediate deletion, in one transaction.

        Nothing else may reference the object.
        """
        ...

    async def purge_cleared_intents(self, older_than: float, limit: int) -> int:
        """Delete the records of intents cleared before this time (of `now`); return how many."""
        ...

    async def stale_intents(
        self, older_than: float, limit: int, offset: int = 0
    ) -> Sequence[ObjectIntent]:
        """Return intents created before this time, oldest first, starting at the offset."""
        ...

    async def is_object_live(self, ref: ObjectRef) -> bool:
        """Return whether a live node references this object as content or thumbnail."""
        ...

    async def now(self) -> float:
        """Return the database's time, which all processes use to decide which deletions are due."""
        ...

    async def deletions_due(
        self, now: float, limit: int, offset: int = 0
    ) -> Sequence[ObjectDeletion]:
        """Return due deletions of objects that no live node references, longest due first,
        starting at the offset."""
        ...

    async def deletion_done(self, deletion_id: int) -> None: ...


class LeaseCatalogue(Protocol):
    """Named leases for jobs that one process at a time runs (rule 15)."""

    async def hold_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Acquire or renew a named lease by the database's clock; False while another holds it."""
        ...

    async def release_lease(self, name: str, holder: str) -> None: ...


class Catalogue(
    DriveCatalogue,
    GrantCatalogue,
    QuotaCatalogue,
    NodeCatalogue,
    ProcessingCatalogue,
    ObjectCatalogue,
    Outbox,
    LeaseCatalogue,
    AuditCatalogue,
    InspectionCatalogue,
    Protocol,
):
    """Durable record of drives and nodes.

    Every method is one transaction. `audit` is the entry that a change appends in it. Every read
    and write names the tenant: another tenant's row is NotFound. All methods raise `Unavailable`
    CATALOGUE_UNAVAILABLE when the database does not answer.
    """

    async def ping(self) -> None: ...

    async def missing_migrations(self) -> int:
        """Return how many migrations of this release the database lacks: after a copy of an older
        one was restored, for example.
        """
        ...
