"""Use case of the audit log: who may list it, and its pages."""

from __future__ import annotations

from typing import Final

from sluice_core.access.actions import Action
from sluice_core.access.audit import AUDITED, AUTHENTICATE
from sluice_core.access.decisions import Decision, Refusal, check_scope
from sluice_core.access.principal import Principal
from sluice_core.errors import InvalidArgument
from sluice_core.ports.audit import AuditCatalogue, AuditCursor, AuditFilter, AuditPage
from sluice_core.uploads.names import check_subject

_ACTIONS: Final = frozenset({*AUDITED, AUTHENTICATE})
_SEPARATOR: Final = ":"
_MICROSECONDS: Final = 1_000_000
_MAX_CURSOR: Final = 2**63


class AuditReader:
    """Lists the audit log of the caller's tenant. Refused tokens belong to no tenant."""

    def __init__(self, catalogue: AuditCatalogue) -> None:
        self._catalogue = catalogue

    async def list(
        self, principal: Principal, limit: int, after: AuditCursor | None, wanted: AuditFilter
    ) -> AuditPage:
        """Return entries, newest first.

        Raise `PermissionDenied` MISSING_SCOPE without tenant:admin, NOT_GRANTED for a token that is
        limited to some drives: the log is about all of them. Raise `InvalidArgument` BAD_ACTION,
        BAD_SUBJECT.
        """
        check_scope(principal, Action.LIST_AUDIT_ENTRIES).enforce()
        if principal.drives:
            Decision(Action.LIST_AUDIT_ENTRIES, Refusal.NOT_GRANTED).enforce()
        if wanted.action and wanted.action not in _ACTIONS:
            raise InvalidArgument(
                "BAD_ACTION",
                f"The audit log has no such action; use one of {', '.join(sorted(_ACTIONS))}.",
                field="action",
            )
        if wanted.subject:
            check_subject(wanted.subject)
        return await self._catalogue.list_audit(principal.tenant, limit, after, wanted)


def audit_cursor(after: AuditCursor | None) -> str:
    """Return the cursor of the page after this place, empty without one."""
    if after is None:
        return ""
    return f"{round(after.occurred_at * _MICROSECONDS)}{_SEPARATOR}{after.row_id}"


def audit_place(cursor: str) -> AuditCursor | None:
    """Return the place of a cursor. Raise `InvalidArgument` for one that is none."""
    if not cursor:
        return None
    numbers = cursor.split(_SEPARATOR)
    if len(numbers) == 2 and all(_is_number(number) for number in numbers):
        return AuditCursor(int(numbers[0]) / _MICROSECONDS, int(numbers[1]))
    raise InvalidArgument("BAD_CURSOR", "The cursor names no place in the log; start again.")


def _is_number(text: str) -> bool:
    # int() accepts other scripts, signs and underscores, and is slow for long texts.
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < _MAX_CURSOR
