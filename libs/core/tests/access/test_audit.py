"""What the audit log records: which actions, and how it names their objects."""

from __future__ import annotations

import pytest

from sluice_core.access.actions import Action
from sluice_core.access.audit import (
    AUDITED,
    MAX_OBJECT_CHARACTERS,
    AuditEntry,
    Trail,
    audited,
    begin_trail,
    drive_object,
    grant_object,
    node_object,
    policy_object,
)
from sluice_core.access.grants import Access, Grantee, GranteeKind, Role
from sluice_core.access.principal import Principal, set_principal
from sluice_core.ports.catalogue import POLICY_FIELDS, DrivePolicy
from sluice_core.uploads.model import Integrity

UPLOADS = {
    Action.INITIATE_UPLOAD,
    Action.UPLOAD_CHUNK,
    Action.UPLOAD_STREAM,
    Action.COMPLETE_UPLOAD,
    Action.ABORT_UPLOAD,
    Action.RESERVE_QUOTA,
    Action.RELEASE_QUOTA,
}
"""Steps of uploads, which have their events."""


def test_every_change_is_audited() -> None:
    """An action that is added is a read, a step of an upload, or audited."""
    reads = {
        action for action in Action if action.value.startswith(("Get", "List", "Read", "Watch"))
    }
    assert set(Action) == AUDITED | UPLOADS | reads
    assert AUDITED & reads == {Action.GET_DOWNLOAD_URL}


async def test_an_entry_has_the_origin_of_its_call() -> None:
    set_principal(Principal("acme", "ann", frozenset()))
    trail = Trail("r-1", "10.0.0.1")
    begin_trail(trail)
    entry = audited(Action.DELETE_NODE, "node/a")
    assert entry == AuditEntry(
        "acme", "ann", "DeleteNode", "node/a", "OK", request_id="r-1", peer="10.0.0.1"
    )
    assert trail.object == "node/a", "for a refusal"


async def test_a_change_without_a_caller_has_no_entry() -> None:
    assert audited(Action.DELETE_NODE, "node/a") is None


@pytest.mark.parametrize("name", ["", "a/b", "x" * 64, "a\x1b[1m", "../a", "a b"])
def test_invalid_names_are_left_out(name: str) -> None:
    assert drive_object(name, "read_only") == ""
    assert grant_object(name, Grantee(GranteeKind.GROUP, "staff"), Role.READER) == ""
    assert node_object(f"{name} ") == ""


def test_policies_name_fields_and_values() -> None:
    values = {"read_only": True, "access": Access.GRANTS, "encryption": None, "storage_class": ""}
    assert policy_object("d", values) == (
        "drive/d access=grants encryption read_only=true storage_class="
    )
    assert policy_object("d", {}) == "drive/d"
    assert policy_object("a b", values) == ""


def test_every_policy_fits_into_an_object() -> None:
    """With the longest valid name and values, so that no field is cut off."""
    policy = DrivePolicy(
        integrity=Integrity.SHA256_BEFORE_VISIBLE,
        part_bytes=2**64 - 1,
        storage_class="S" * 64,
        encryption="e" * 255,
    )
    named = policy_object("d" * 63, {field: getattr(policy, field) for field in POLICY_FIELDS})
    assert len(named) <= MAX_OBJECT_CHARACTERS
    assert named.endswith(f"storage_class={'S' * 64}")


def test_grants_name_role_and_receiver() -> None:
    ann = Grantee(GranteeKind.SUBJECT, "ann b/c")
    assert grant_object("d", ann, Role.OWNER) == "drive/d owner subject:ann b/c"
    assert grant_object("d", ann) == "drive/d subject:ann b/c"
    for name in ("a\x00", "x" * 256):
        assert grant_object("d", Grantee(GranteeKind.GROUP, name), Role.OWNER) == "drive/d"
