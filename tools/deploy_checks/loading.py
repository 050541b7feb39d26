"""Settings of a workload, loaded by the services' own code from what the manifests set."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from unittest.mock import patch

from sluice_common.settings import PREFIX, SluiceSettings, load_settings
from sluice_common.settings.secret_files import secret_settings
from sluice_core.configuration import ConfigurationError
from tools.deploy_checks.images import variables_of
from tools.deploy_checks.manifests import Manifest, Workload, environment_of

SECRET_FILES: Final = frozenset(
    setting.file_name for setting in secret_settings(SluiceSettings, PREFIX)
)
_STAND_INS: Final = {
    "SLUICE_REDIS__URL_FILE": "rediss://sluice:9f1c7d52b8e64a03@redis.example.com:6379/0",
    "SLUICE_MYSQL__URL_FILE": "mysql+aiomysql://sluice:4be07a91d6c35f28@mysql.example.com:3306/sluice",
}
_STAND_IN: Final = "c7e15f9a80d24b36"


class UnusableSettingsError(Exception):
    """The service would refuse its settings; the text is its own."""


def full_environment(workload: Workload, manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return the settings that the process has: those of the image, and of the manifests."""
    return {**variables_of(workload.service), **environment_of(workload, manifests)}


def load(workload: Workload, manifests: Sequence[Manifest]) -> SluiceSettings:
    """Return the settings of a workload. Raise `UnusableSettingsError`.

    The files of secrets are not here: each has a strong secret of its form in place of its own.
    """
    environment = full_environment(workload, manifests)
    with tempfile.TemporaryDirectory() as folder:
        files = {
            name: _write(Path(folder) / name, _STAND_INS.get(name, _STAND_IN))
            for name in environment.keys() & SECRET_FILES
        }
        return _load({**environment, **files})


def _write(file: Path, secret: str) -> str:
    file.write_text(secret, encoding="utf-8")
    return str(file)


def _load(environment: Mapping[str, str]) -> SluiceSettings:
    # HOME: the default of the data directory is in it.
    with patch.dict(os.environ, {**environment, "HOME": "/nonexistent"}, clear=True):
        try:
            return load_settings()
        except ConfigurationError as error:
            raise UnusableSettingsError(str(error)) from None
