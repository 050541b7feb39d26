"""`sluice-processor`: the processor as a process of its own."""

from __future__ import annotations

import os
import sys

from sluice_common.malloc import tune_malloc


def main() -> int:
    """Entry point of the console script; the exit code."""
    tune_malloc()  # before the import below: it brings grpc, which allocates
    # Children are started by fork and exec; see sluice_standalone.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from sluice_processor.service import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
