"""A drive with what decides who may use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sluice_core.access.actions import Action
from sluice_core.access.decisions import NO_GRANTS, Decision, Grants, may
from sluice_core.access.grants import Grant
from sluice_core.access.principal import Principal
from sluice_core.ports.catalogue import Drive


@dataclass(frozen=True, slots=True)
class DriveWithGrants:
    """A drive and its grants."""

    drive: Drive
    grants: Grants = field(default_factory=lambda: NO_GRANTS)

    @classmethod
    def of(cls, drive: Drive, grants: Iterable[Grant]) -> DriveWithGrants:
        return cls(drive, {grant.grantee: grant.role for grant in grants})

    def may(
        self, principal: Principal, action: Action, upload_subject: str | None = None
    ) -> Decision:
        """Return the decision of `may` for this drive."""
        return may(principal, action, self.drive, self.grants, upload_subject=upload_subject)
