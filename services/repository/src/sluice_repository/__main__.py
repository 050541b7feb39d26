"""`sluice-repository`: the repository as a process of its own, with any set of roles."""

from __future__ import annotations

import sys

from sluice_common.tuning import tune_process


def main() -> int:
    """Entry point of the console script; the exit code."""
    tune_process()  # before the import below: it brings grpc
    from sluice_repository.service import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
