"""The catalogue port: the durable record of drives and nodes, and what must happen because of it.

Every method is one transaction. Every read and write names the tenant: another tenant's row is
NotFound. Raises `Unavailable` CATALOGUE_UNAVAILABLE when the database does not answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from sluice_core.catalogue.processing import NodeResult, Processing, Recorded
from sluice_core.ports import LedgerEvent
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.model import Integrity, ObjectRef

MAX_DOWNLOAD_URL_SECONDS = 3600
"""The longest life of a presigned URL; a deleted node's object stays as long (rule 19)."""


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
    """Where pictures were taken is neither kept nor shown."""


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
class Candidate:
    """A node whose content may have to be looked at, and whether somebody did."""

    node: Node
    etag: str | None
    """Of the content that there is a result of; None when there is no result."""
    reason: str
    """Why that one FAILED; empty when it did not."""


@dataclass(frozen=True, slots=True)
class NodeCommit:
    """A finished upload that wants to become a node (rule 19)."""

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
    """The upload's unpublished ledger events, carried over into the outbox before
    UploadCompleted."""
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class CommitOutcome:
    """`created` is False when the node id was there already (a replay): nothing changed."""

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
class OutboxRow:
    row_id: int
    event: EventRecord


@dataclass(frozen=True, slots=True)
class OutboxPage:
    """The first rows that are not withheld, in insertion order."""

    rows: tuple[OutboxRow, ...]
    withheld_keys: frozenset[str]
    """Keys among those of the rows of which other rows are withheld: these have to wait too."""


@dataclass(frozen=True, slots=True)
class ObjectDeletion:
    """An object that nothing names any more; to be deleted at or after `not_before`."""

    deletion_id: int
    object: ObjectRef
    not_before: float


@dataclass(frozen=True, slots=True)
class ObjectIntent:
    """A worker's word that it is about to create an object (rule 13)."""

    upload_id: str
    tenant: str
    object: ObjectRef
    multipart_id: str
    created_at: float


class Catalogue(Protocol):
    async def ping(self) -> None: ...

    # -- drives

    async def create_drive(
        self, tenant: str, name: str, bucket: str, key_prefix: str, policy: DrivePolicy
    ) -> Drive:
        """Raises `AlreadyExists` DRIVE_EXISTS, unless the existing one is equal (a repeat)."""
        ...

    async def get_drive(self, tenant: str, name: str) -> Drive:
        """Raises `NotFound` DRIVE_NOT_FOUND."""
        ...

    async def drives_named(self, name: str, tenants: Sequence[str]) -> Sequence[Drive]:
        """The drives of this name that some of these tenants have."""
        ...

    async def drives_overlapping(
        self, tenant: str, name: str, buckets: Sequence[str], key_prefix: str
    ) -> Sequence[Drive]:
        """Drives of other tenants in these buckets whose keys could be mistaken for those of such
        a drive: its `{key_prefix}{tenant}/{name}/` lies where another tenant's keys begin
        (`{key_prefix}{tenant}/`), or another drive's lies inside of it."""
        ...

    async def list_drives(self, tenant: str, limit: int, after: str) -> DrivePage: ...

    async def update_drive(
        self, tenant: str, name: str, policy: DrivePolicy, fields: frozenset[str] = POLICY_FIELDS
    ) -> Drive:
        """Take these fields of `policy` over, all of them by default."""
        ...

    # -- nodes

    async def commit_node(self, commit: NodeCommit) -> CommitOutcome:
        """Rule 19, in one transaction: node if absent, path row locked, superseded node to a
        tombstone with its object deletion and NodeDeleted, carried ledger events, then
        UploadCompleted into the outbox; the intent row goes.

        Raises `AlreadyExists` PATH_EXISTS under if_absent, `Aborted` FENCED when the intent was
        cleared: the upload has ended, and such a commit is late.
        """
        ...

    async def adopt_object(self, commit: NodeCommit) -> CommitOutcome | None:
        """Make a node of an object that no upload announced: the same transaction, with an upload
        id that follows from the node's. None, and nothing changed, while an upload's intent names
        the object: that upload makes the node itself."""
        ...

    async def get_node(self, tenant: str, node_id: str) -> Node:
        """Raises `NotFound` NODE_NOT_FOUND, also for tombstones."""
        ...

    async def find_node(self, tenant: str, drive: str, path: str) -> Node: ...

    async def list_nodes(
        self, tenant: str, drive: str, path_prefix: str, limit: int, after: str
    ) -> NodePage:
        """Live nodes by path (byte order), from the path after `after`."""
        ...

    async def update_node(
        self, tenant: str, node_id: str, metadata: Mapping[str, str], if_version: int
    ) -> Node:
        """Replace the metadata. Raises `Aborted` VERSION_CONFLICT (if_version > 0 and another)."""
        ...

    async def delete_node(self, tenant: str, node_id: str) -> None:
        """Tombstone, path freed, object deletion and NodeDeleted. A tombstone again is no error;
        an unknown id is NotFound."""
        ...

    # -- SHA-256 afterwards (rule 20)

    async def nodes_without_sha256(self, limit: int, offset: int = 0) -> Sequence[Node]:
        """Live nodes of all tenants, under the policy sha256_async, that lack it; oldest first,
        those before the offset left out."""
        ...

    async def record_sha256(self, node_id: str, sha256: bytes) -> bool:
        """Set it once and append NodeVerified; False when it was set or the node is gone."""
        ...

    # -- what the processor makes of nodes

    async def announce_thumbnails(self, node_id: str, objects: Sequence[ObjectRef]) -> bool:
        """Say which objects are about to be written for a live node, before they are: from then
        on they are deleted with it, whatever becomes of whoever writes them. A repeat changes
        nothing; False, and nothing noted, when the node is gone."""
        ...

    async def candidates(self, node_ids: Sequence[str]) -> Mapping[str, Candidate]:
        """Nodes as somebody needs to know them who may look at their content; live nodes of all
        tenants."""
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
        """One result for one content, in one transaction: the node's record, its thumbnails, and
        NodeProcessed or NodeProcessingFailed.

        Idempotent by (node id, ETag): a second result for the same content is REPEATED, except
        that a PROCESSED one replaces a FAILED one. Thumbnails that the node had and this result
        does not name are put up for deletion. `sha256` is set, with NodeVerified, if the node has
        none (rule 20). The location is dropped where the drive's policy says so.
        """
        ...

    async def record_all_processed(self, results: Sequence[NodeResult]) -> Sequence[Recorded]:
        """Several results, each as `record_processed` says, all in one transaction; what became
        of each, in their order. No node twice."""
        ...

    async def processing_of(self, tenant: str, node_ids: Sequence[str]) -> Mapping[str, Processing]:
        """The results of these nodes; live nodes of the tenant that have one."""
        ...

    # -- intents and deletions (rules 13, 26)

    async def record_intent(self, intent: ObjectIntent) -> None:
        """Insert, or set the multipart id of the existing row. A row is of one upload id and one
        object: an upload id that is used again has an intent of its own."""
        ...

    async def clear_intent(self, upload_id: str, ref: ObjectRef | None = None) -> None:
        """Clear the intent to make this object, or all intents of the upload id. It waits for a
        commit that is under way; one that comes later is refused."""
        ...

    async def abandon_intent(self, intent: ObjectIntent) -> None:
        """Clear the intent and put its object up for deletion at once, in one transaction: nothing
        else may know of the object any more."""
        ...

    async def forget_cleared_intents(self, older_than: float, limit: int) -> int:
        """Forget that intents were cleared before this time (of `now`); how many were."""
        ...

    async def stale_intents(
        self, older_than: float, limit: int, offset: int = 0
    ) -> Sequence[ObjectIntent]:
        """Intents made before this time, oldest first, those before the offset left out."""
        ...

    async def is_object_live(self, ref: ObjectRef) -> bool:
        """Does a live node name this object, as its content or as a thumbnail?"""
        ...

    async def now(self) -> float:
        """The time by which deletions fall due: that of the database, one for all processes."""
        ...

    async def deletions_due(
        self, now: float, limit: int, offset: int = 0
    ) -> Sequence[ObjectDeletion]:
        """Due deletions whose object no live node names, longest due first, those before the
        offset left out."""
        ...

    async def deletion_done(self, deletion_id: int) -> None: ...

    # -- outbox and leases (rules 15, 22)

    async def outbox(self, limit: int) -> Sequence[OutboxRow]:
        """Unpublished rows in insertion order, withheld ones included."""
        ...

    async def outbox_ready(self, limit: int) -> OutboxPage:
        """Unpublished rows that are not withheld. Its cost does not grow with those that are."""
        ...

    async def withhold(self, row_ids: Sequence[int]) -> None:
        """Take rows out of `outbox_ready` until they are published: the publisher refuses one of
        their key, and none may overtake it."""
        ...

    async def withheld_after(self, row_id: int, limit: int) -> Sequence[tuple[int, str]]:
        """Withheld rows from the one after this on, in insertion order: row id and key."""
        ...

    async def withheld_of(self, keys: Collection[str], limit: int) -> Sequence[OutboxRow]:
        """The withheld rows of these keys in insertion order."""
        ...

    async def count_withheld(self) -> int: ...

    async def outbox_published(self, row_ids: Sequence[int]) -> None: ...

    async def hold_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or extend a named lease by the database's clock; False while another holds it."""
        ...

    async def release_lease(self, name: str, holder: str) -> None: ...
