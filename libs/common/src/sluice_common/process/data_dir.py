"""Layout of a data directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluice_core.configuration import ConfigurationError


@dataclass(frozen=True, slots=True)
class DataDir:
    """All persistent files are below `root`; moving the directory moves the server."""

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
    def url_keys(self) -> Path:
        """The keys that sign URLs of objects."""
        return self.root / "auth" / "url-keys.json"

    @property
    def catalogue(self) -> Path:
        return self.root / "catalogue.sqlite"

    @property
    def events(self) -> Path:
        return self.root / "events"

    @property
    def processor(self) -> Path:
        """The processor's position in the event log, and its dead letters."""
        return self.root / "processor"

    @property
    def gateway(self) -> Path:
        """The gateway's position in the event log."""
        return self.root / "gateway"

    @property
    def auth_secret(self) -> Path:
        """The key of `sluice serve --auth`."""
        return self.root / "auth" / "secret"

    @property
    def admin_token(self) -> Path:
        """The token of the first administrator, signed with that key."""
        return self.root / "auth" / "admin.token"

    @property
    def gateway_keys(self) -> Path:
        """The keys with which the gateway signs tokens."""
        return self.root / "auth" / "gateway-keys.json"

    @property
    def settings(self) -> Path:
        """Settings with which the last server used the directory."""
        return self.root / "settings.json"

    @property
    def announcement(self) -> Path:
        """server.json: the addresses and the process id of the running server."""
        return self.root / "server.json"


def create_data_dir(root: Path) -> DataDir:
    """Create the data directory at `root` if it does not exist, and return it.

    Raise `ConfigurationError` if it cannot be created.
    """
    with as_data_dir_error(root):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return DataDir(root)


@contextmanager
def as_data_dir_error(root: Path) -> Iterator[None]:
    """Translate `OSError` of the data directory to `ConfigurationError`."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"SLUICE_DATA_DIR: {root} cannot be used: {error.strerror}"
        ) from None
