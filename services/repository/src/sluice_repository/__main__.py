"""`sluice-repository`: the repository as a process of its own, with any set of roles."""

from __future__ import annotations

import sys

from sluice_common.process.grpc_environment import disable_fork_handlers
from sluice_common.process.malloc import tune_malloc


def main() -> int:
    """Entry point of the console script; the exit code."""
    # Before the import below, which brings grpc: it allocates, and reads the environment.
    tune_malloc()
    disable_fork_handlers()
    from sluice_repository.service import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
