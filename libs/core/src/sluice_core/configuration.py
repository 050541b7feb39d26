"""Configuration errors: the exception and the exit code."""

from __future__ import annotations

from typing import Final

EXIT_CONFIGURATION: Final = 78
"""EX_CONFIG of sysexits.h."""


class ConfigurationError(ValueError):
    """Invalid setting. The process prints one line and exits with 78.

    The message is one line that names the setting, without its value: a value may be a secret.
    """
