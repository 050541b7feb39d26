"""The limit of open files, which is the limit of connections."""

# Import only the standard library: `prepare_process` runs before grpc is imported.

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

ENOUGH: Final = 65_536
"""More than any service opens."""


def raise_open_files() -> None:
    """Raise the soft limit of this process to the hard one, at most to ENOUGH.

    Many systems begin with 1,024, for programs that use select(2); the services do not. A server
    that has reached the limit accepts no connection, not even that of a probe.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError):  # macOS allows less than its hard limit; then nothing changes
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
