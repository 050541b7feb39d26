"""What a process does about a configuration it cannot run with: one line, and exit 78."""

from __future__ import annotations

from typing import Final

EXIT_CONFIGURATION: Final = 78
"""EX_CONFIG of sysexits.h."""


class ConfigurationError(ValueError):
    """A setting that cannot work. The message is one line that names it, without its value:
    a value may be a secret."""
