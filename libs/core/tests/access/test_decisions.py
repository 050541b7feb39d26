"""Invariants of the decision who may do what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from sluice_core.access.actions import GUARDED_SERVICES, RULES, Action
from sluice_core.access.decisions import (
    Grants,
    NamedDrive,
    Refusal,
    check_scope,
    depends_on_grants,
    may,
)
from sluice_core.access.grants import Access, Grantee, GranteeKind, Role
from sluice_core.access.principal import LOCAL_PRINCIPAL, Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import NotFound, PermissionDenied

TENANTS = st.sampled_from(["acme", "rival"])
SUBJECTS = st.sampled_from(["ann", "bob", "eve"])
GROUPS = st.frozensets(st.sampled_from(["staff", "guests", "ann"]))
NAMES = st.sampled_from(["photos", "photos-2026", "archive", "p"])
LIMITS = st.lists(st.sampled_from(["photos", "photos*", "archive", "*"]), max_size=2).map(tuple)
GRANTEES = st.builds(
    Grantee, st.sampled_from(GranteeKind), st.sampled_from(["ann", "bob", "eve", "staff", "guests"])
)
GRANTS: st.SearchStrategy[dict[Grantee, Role]] = st.dictionaries(GRANTEES, st.sampled_from(Role))
SCOPES = st.frozensets(st.sampled_from(Scope))
PRINCIPALS = st.builds(Principal, TENANTS, SUBJECTS, SCOPES, LIMITS, GROUPS)
DRIVES = st.builds(NamedDrive, TENANTS, NAMES, st.sampled_from(Access))
ACTIONS = st.sampled_from(Action)
UPLOAD_SUBJECTS = st.none() | SUBJECTS

ANN = Principal("acme", "ann", frozenset({Scope.UPLOADS_WRITE, Scope.UPLOADS_READ}))
OPEN = NamedDrive("acme", "photos")
CLOSED = NamedDrive("acme", "photos", Access.GRANTS)
SUBJECT_ANN = Grantee(GranteeKind.SUBJECT, "ann")


def test_every_rpc_is_an_action_with_a_rule() -> None:
    services = [
        upload_pb2.DESCRIPTOR.services_by_name["IntakeService"],
        repository_pb2.DESCRIPTOR.services_by_name["RepositoryService"],
    ]
    assert {service.full_name for service in services} == GUARDED_SERVICES
    assert {method.name for service in services for method in service.methods} == set(Action)
    assert set(RULES) == set(Action)


@given(PRINCIPALS, ACTIONS, DRIVES, GRANTS, UPLOAD_SUBJECTS, SCOPES)
def test_more_scopes_never_allow_less(
    principal: Principal,
    action: Action,
    drive: NamedDrive,
    grants: Grants,
    upload_subject: str | None,
    more: frozenset[str],
) -> None:
    stronger = replace(principal, scopes=principal.scopes | more)
    if may(principal, action, drive, grants, upload_subject=upload_subject).allowed:
        assert may(stronger, action, drive, grants, upload_subject=upload_subject).allowed


@given(PRINCIPALS, ACTIONS, DRIVES, GRANTS, UPLOAD_SUBJECTS)
def test_another_tenant_is_never_allowed(
    principal: Principal,
    action: Action,
    drive: NamedDrive,
    grants: Grants,
    upload_subject: str | None,
) -> None:
    foreign = replace(drive, tenant=f"not-{principal.tenant}")
    decision = may(principal, action, foreign, grants, upload_subject=upload_subject)
    scope = check_scope(principal, action)
    assert decision.refusal == (scope.refusal or Refusal.NOT_FOUND)


@given(PRINCIPALS, ACTIONS, DRIVES, GRANTS, UPLOAD_SUBJECTS)
def test_an_admin_may_everything_in_its_tenant(
    principal: Principal,
    action: Action,
    drive: NamedDrive,
    grants: Grants,
    upload_subject: str | None,
) -> None:
    admin = replace(principal, scopes=frozenset({Scope.TENANT_ADMIN}), drives=())
    own = replace(drive, tenant=admin.tenant)
    assert may(admin, action, own, grants, upload_subject=upload_subject).allowed


@given(PRINCIPALS, ACTIONS, DRIVES, GRANTS, UPLOAD_SUBJECTS, GRANTEES)
def test_revocation_never_allows_more(
    principal: Principal,
    action: Action,
    drive: NamedDrive,
    grants: dict[Grantee, Role],
    upload_subject: str | None,
    grantee: Grantee,
) -> None:
    fewer = {one: role for one, role in grants.items() if one != grantee}
    if may(principal, action, drive, fewer, upload_subject=upload_subject).allowed:
        assert may(principal, action, drive, grants, upload_subject=upload_subject).allowed


@given(PRINCIPALS, ACTIONS, DRIVES, GRANTS, UPLOAD_SUBJECTS, GRANTEES)
def test_a_higher_role_never_allows_less(
    principal: Principal,
    action: Action,
    drive: NamedDrive,
    grants: dict[Grantee, Role],
    upload_subject: str | None,
    grantee: Grantee,
) -> None:
    allowed = [
        may(principal, action, drive, {**grants, grantee: role}, upload_subject=upload_subject)
        for role in Role
    ]
    assert sorted(allowed, key=lambda decision: decision.allowed) == allowed


@given(PRINCIPALS, ACTIONS, DRIVES, GRANTS, UPLOAD_SUBJECTS)
def test_a_closed_drive_never_allows_more_than_an_open_one(
    principal: Principal,
    action: Action,
    drive: NamedDrive,
    grants: Grants,
    upload_subject: str | None,
) -> None:
    closed, opened = (replace(drive, access=access) for access in (Access.GRANTS, Access.TENANT))
    if may(principal, action, closed, grants, upload_subject=upload_subject).allowed:
        assert may(principal, action, opened, grants, upload_subject=upload_subject).allowed


@given(PRINCIPALS, ACTIONS, DRIVES, GRANTS, UPLOAD_SUBJECTS)
def test_a_limited_token_never_allows_more(
    principal: Principal,
    action: Action,
    drive: NamedDrive,
    grants: Grants,
    upload_subject: str | None,
) -> None:
    unlimited = replace(principal, drives=())
    if may(principal, action, drive, grants, upload_subject=upload_subject).allowed:
        assert may(unlimited, action, drive, grants, upload_subject=upload_subject).allowed


@given(PRINCIPALS, ACTIONS, DRIVES, GRANTS, UPLOAD_SUBJECTS)
def test_decisions_without_grants_do_not_depend_on_them(
    principal: Principal,
    action: Action,
    drive: NamedDrive,
    grants: Grants,
    upload_subject: str | None,
) -> None:
    if not depends_on_grants(principal, action, upload_subject):
        named = NamedDrive(drive.tenant, drive.name)
        decided = may(principal, action, named, upload_subject=upload_subject)
        assert decided == may(principal, action, drive, grants, upload_subject=upload_subject)


@given(PRINCIPALS, DRIVES, GRANTS, SUBJECTS)
def test_only_owners_and_admins_write_to_an_upload(
    principal: Principal, drive: NamedDrive, grants: dict[Grantee, Role], subject: str
) -> None:
    grantees = {Grantee(GranteeKind.SUBJECT, principal.subject)} | {
        Grantee(GranteeKind.GROUP, group) for group in principal.groups
    }
    owns = any(grants.get(grantee) is Role.OWNER for grantee in grantees)
    for action in (
        Action.UPLOAD_CHUNK,
        Action.UPLOAD_STREAM,
        Action.COMPLETE_UPLOAD,
        Action.ABORT_UPLOAD,
    ):
        if may(principal, action, drive, grants, upload_subject=subject).allowed:
            is_admin = Scope.TENANT_ADMIN in principal.scopes
            assert is_admin or owns or principal.subject == subject


@pytest.mark.parametrize(
    ("limit", "name", "allowed"),
    [
        ((), "photos", True),
        (("photos",), "photos", True),
        (("photos",), "photos-2026", False),
        (("photos*",), "photos-2026", True),
        (("photos*",), "photo", False),
        (("*",), "anything", True),
        (("a", "photos"), "photos", True),
        (("photos-*", "archive"), "photos", False),
        (("",), "photos", False),
    ],
)
def test_a_token_is_limited_to_its_drives(limit: tuple[str, ...], name: str, allowed: bool) -> None:
    for principal in (ANN, LOCAL_PRINCIPAL):
        limited = replace(principal, tenant="acme", drives=limit)
        decision = may(limited, Action.INITIATE_UPLOAD, NamedDrive("acme", name))
        assert decision.allowed is allowed
        assert decision.refusal is (None if allowed else Refusal.NOT_GRANTED)


@pytest.mark.parametrize(
    ("role", "allowed"),
    [(None, False), (Role.READER, False), (Role.WRITER, True), (Role.OWNER, True)],
)
def test_a_closed_drive_needs_the_role_of_the_action(role: Role | None, allowed: bool) -> None:
    grants = {} if role is None else {SUBJECT_ANN: role}
    assert may(ANN, Action.INITIATE_UPLOAD, CLOSED, grants).allowed is allowed
    assert may(ANN, Action.INITIATE_UPLOAD, OPEN, grants).allowed


def test_a_group_is_not_a_subject_of_the_same_name() -> None:
    grants = {Grantee(GranteeKind.GROUP, "ann"): Role.OWNER}
    assert not may(ANN, Action.INITIATE_UPLOAD, CLOSED, grants).allowed
    member = replace(ANN, subject="bob", groups=frozenset({"ann"}))
    assert may(member, Action.INITIATE_UPLOAD, CLOSED, grants).allowed


def test_a_revoked_owner_reads_but_does_not_write_its_upload() -> None:
    read = may(ANN, Action.GET_UPLOAD_STATUS, CLOSED, upload_subject="ann")
    write = may(ANN, Action.UPLOAD_CHUNK, CLOSED, upload_subject="ann")
    assert (read.allowed, write.allowed) == (True, False)


def test_refusals_are_raised_as_errors() -> None:
    may(ANN, Action.INITIATE_UPLOAD, OPEN).enforce()
    with pytest.raises(PermissionDenied, match="MISSING_SCOPE") as missing:
        may(ANN, Action.DELETE_NODE, OPEN).enforce()
    assert missing.value.metadata == {"scope": "nodes:write"}
    reader = Principal("acme", "ann", frozenset({Scope.NODES_READ}))
    with pytest.raises(PermissionDenied, match="drives:read or uploads:write") as one_of:
        may(reader, Action.GET_DRIVE, OPEN).enforce()
    assert one_of.value.metadata == {"scope": "drives:read"}
    with pytest.raises(PermissionDenied, match="NOT_GRANTED"):
        may(ANN, Action.INITIATE_UPLOAD, CLOSED).enforce()
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        may(ANN, Action.INITIATE_UPLOAD, NamedDrive("rival", "photos")).enforce()
