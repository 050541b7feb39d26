"""Settings that a data directory is used with, recorded for the commands of operators."""

from __future__ import annotations

import json
from typing import Final

from sluice_common.process.data_dir import DataDir, as_data_dir_error
from sluice_common.settings import SluiceSettings, setting_values
from sluice_core.configuration import ConfigurationError
from sluice_standalone.data_dir import write_atomically

_NAMES: Final = (
    "SLUICE_OBJECTS",
    "SLUICE_BUCKET",
    "SLUICE_DURABILITY",
    "SLUICE_SWEEPER__LEFTOVER_AGE_SECONDS",
    "SLUICE_SWEEPER__INTENT_AGE_SECONDS",
    "SLUICE_AUDIT__RETENTION_DAYS",
)
"""Where the bytes are, and what a sweeper takes for old. Lifetimes and S3 are added whole."""

_GROUPS: Final = ("SLUICE_LIFETIMES__",)
_OF_S3: Final = ("SLUICE_S3__ENDPOINT_URL", "SLUICE_S3__REGION")


def record_settings(data_dir: DataDir, settings: SluiceSettings) -> None:
    """Record the settings of a starting server, which holds the directory's lock."""
    with as_data_dir_error(data_dir.root):
        write_atomically(data_dir.settings, json.dumps(_recorded(settings), indent=2) + "\n")


def check_settings(data_dir: DataDir, settings: SluiceSettings, *, required: bool) -> None:
    """Raise `ConfigurationError` if the server of this directory had other settings.

    A command of an operator has the settings of a shell. With those of another object store it
    would find no object, and with a shorter retention a sweep would delete what the server keeps.

    Args:
        required: refuse a directory without a record too, which no server of this release has used.
    """
    used = _read(data_dir)
    here = _recorded(settings)
    if used is None or not here.keys() <= used.keys() | set(_OF_S3):
        if required:
            raise ConfigurationError(
                f"SLUICE_DATA_DIR: {data_dir.root} does not say with which settings its server"
                " runs; start and stop the server once, with its settings"
            )
        return
    differing = [
        f"{name} is {here.get(name) or 'unset'} here and {used.get(name) or 'unset'} there"
        for name in sorted(used.keys() | here.keys())
        if here.get(name) != used.get(name)
    ]
    if differing:
        raise ConfigurationError(
            f"the server of {data_dir.root} ran with other settings; give this command the same: "
            + "; ".join(differing)
        )


def _recorded(settings: SluiceSettings) -> dict[str, str]:
    values = setting_values(settings)
    s3 = _OF_S3 if values["SLUICE_OBJECTS"] == "s3" else ()
    return {
        name: value
        for name, value in values.items()
        if name in _NAMES or name in s3 or name.startswith(_GROUPS)
    }


def _read(data_dir: DataDir) -> dict[str, str] | None:
    """Return the record; None without one, or after a power cut while it was written."""
    with as_data_dir_error(data_dir.root):
        if not data_dir.settings.exists():
            return None
        text = data_dir.settings.read_bytes()
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
