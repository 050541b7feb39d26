"""What lies where in a data directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DataDir:
    """Everything that lasts is below `root`; moving the directory moves the server."""

    root: Path

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.sqlite"

    @property
    def chunks(self) -> Path:
        return self.root / "chunks"

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def catalogue(self) -> Path:
        return self.root / "catalogue.sqlite"

    @property
    def events(self) -> Path:
        return self.root / "events"

    @property
    def processor(self) -> Path:
        """How far the processor is in the event log, and what it gave up on."""
        return self.root / "processor"

    @property
    def announcement(self) -> Path:
        """server.json: the addresses and the process id of the running server."""
        return self.root / "server.json"
