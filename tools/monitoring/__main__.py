"""Writes dashboards, rules and their tests below deploy/; `--check` compares them instead."""

from __future__ import annotations

import argparse
import sys

from tools.monitoring import files


def main() -> int:
    """Return the exit code: 1 if a file is stale."""
    parser = argparse.ArgumentParser(prog="python -m tools.monitoring", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    if not parser.parse_args().check:
        files.write()
        return 0
    stale = files.stale()
    for path in stale:
        print(f"{path} differs from tools/monitoring: run `make monitoring`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
