"""The `sluice-gateway` command: the gateway in its own process."""

from __future__ import annotations

import sys

from sluice_common.process.start import prepare_process


def main() -> int:
    """Run the console script and return the exit code."""
    prepare_process()  # before the import below, which imports grpc
    from sluice_gateway.service import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
