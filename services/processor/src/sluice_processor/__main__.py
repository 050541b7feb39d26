"""Entry point of `sluice-processor`."""

from __future__ import annotations

import sys

from sluice_common.process.grpc_environment import set_grpc_environment
from sluice_common.process.malloc import tune_malloc


def main() -> int:
    """Run the console script; return the exit code."""
    # Before the import below: it imports grpc, which allocates and reads the environment.
    tune_malloc()
    set_grpc_environment()
    from sluice_processor.service import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
