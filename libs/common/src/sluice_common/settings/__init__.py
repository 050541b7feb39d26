"""Settings of all services: environment variables SLUICE_…, with `__` for nested ones."""

from sluice_common.settings.display import PREFIX, format_settings, setting_values
from sluice_common.settings.groups import LogFormat, LogLevel
from sluice_common.settings.model import (
    SluiceSettings,
    configuration_errors,
    default_data_dir,
    load_settings,
)
from sluice_common.settings.secret_types import MASKED

__all__ = [
    "MASKED",
    "PREFIX",
    "LogFormat",
    "LogLevel",
    "SluiceSettings",
    "configuration_errors",
    "default_data_dir",
    "format_settings",
    "load_settings",
    "setting_values",
]
