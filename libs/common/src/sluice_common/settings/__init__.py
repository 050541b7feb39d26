"""Every setting of every service: environment variables SLUICE_…, nested ones with `__`.

Read and validated once, when a process starts; frozen afterwards. Units stand in the names. A bad
value becomes a `ConfigurationError` of one line that names the setting and not its value.
"""

from sluice_common.settings.groups import LogFormat, LogLevel
from sluice_common.settings.model import (
    SluiceSettings,
    configuration_errors,
    default_data_dir,
    load_settings,
)
from sluice_common.settings.shown import MASKED, PREFIX, shown_settings

__all__ = [
    "MASKED",
    "PREFIX",
    "LogFormat",
    "LogLevel",
    "SluiceSettings",
    "configuration_errors",
    "default_data_dir",
    "load_settings",
    "shown_settings",
]
