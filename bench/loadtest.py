"""`make loadtest`: run loadtest/k6-upload-test.js against a gateway on the services."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.backends import MissingBackendError
from bench.gateways import gateways

SCRIPT: Final = Path(__file__).resolve().parent.parent / "loadtest" / "k6-upload-test.js"
_USAGE: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of k6, which is not 0 when a threshold is missed."""
    parser = argparse.ArgumentParser(prog="loadtest", description=__doc__)
    parser.add_argument("--k6", default="k6", metavar="PROGRAM", help="default: k6 on the PATH")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--scale", type=float, default=1.0, help="of its five minutes")
    options = parser.parse_args(arguments)
    if (program := shutil.which(options.k6)) is None:
        print(
            f"{options.k6} is not installed: install k6 (https://grafana.com/docs/k6) or name it "
            "with K6=PROGRAM. `make bench GATE=GATEWAY` runs the same load without it.",
            file=sys.stderr,
        )
        return _USAGE
    try:
        with gateways(replicas=1) as api:
            environment = {
                **os.environ,
                "BASE_URL": api.first_url,
                "USERS": str(options.users),
                "SCALE": str(options.scale),
                "K6_NO_USAGE_REPORT": "true",
            }
            return subprocess.run([program, "run", str(SCRIPT)], env=environment).returncode
    except MissingBackendError as error:
        print(f"the load test cannot run: {error}", file=sys.stderr)
        return _USAGE


if __name__ == "__main__":
    sys.exit(main())
