"""The `sluice-intake` command: the intake in its own process."""

from __future__ import annotations

import sys

from sluice_common.process.grpc_environment import set_grpc_environment
from sluice_common.process.malloc import tune_malloc


def main() -> int:
    """Run the console script and return the exit code."""
    # Both before the import below: grpc allocates memory and reads the environment on import.
    tune_malloc()
    set_grpc_environment()
    from sluice_intake.service import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
