"""python -m bench.capacity [--gb-per-second 1 10 100] [--objects 1e9] [--json]"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.capacity.command import ROOT, output, parse
from bench.capacity.costs import NotMeasuredError
from bench.report.document import read


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return 1, with the reason, when the run cannot be read or lacks figures."""
    report: Path = parse(arguments).report
    where = str(report.relative_to(ROOT) if report.is_relative_to(ROOT) else report)
    try:
        tables = output(read(report), where, arguments)
    except (NotMeasuredError, OSError, ValueError) as error:
        print(f"bench.capacity: {error}", file=sys.stderr)
        return 1
    print(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
