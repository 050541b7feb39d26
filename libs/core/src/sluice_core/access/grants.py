"""Grants: the roles of subjects and groups on a drive."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

MAX_GRANTS = 1000
"""Grants of one drive; more members belong into a group."""


class Access(StrEnum):
    """Who may use a drive, beside the scopes of their token."""

    TENANT = "tenant"
    """The whole tenant."""
    GRANTS = "grants"
    """Only subjects and groups with a grant, and administrators of the tenant."""


class Role(IntEnum):
    """Roles on a drive; a higher one includes the lower ones."""

    READER = 1
    WRITER = 2
    OWNER = 3


class GranteeKind(StrEnum):
    """What the name of a grantee refers to."""

    SUBJECT = "subject"
    GROUP = "group"


@dataclass(frozen=True, slots=True, order=True)
class Grantee:
    """Receiver of a role: `sub` of a token, or a member of its `groups`."""

    kind: GranteeKind
    name: str


@dataclass(frozen=True, slots=True)
class Grant:
    """A role of one grantee on one drive. `created_at`: Unix seconds."""

    grantee: Grantee
    role: Role
    created_at: float
