"""Refusals for the audit log, kept for a test."""

from __future__ import annotations

from sluice_core.access.audit import AuditEntry


class KeptRefusals:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def add(self, refused: AuditEntry) -> None:
        self.entries.append(refused)
