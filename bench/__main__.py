"""`make bench`: run the gates, print the table, write the JSON; exit 1 when a gate fails.

A quick run checks that everything works and judges nothing.
"""

from __future__ import annotations

import argparse
import sys

from bench import machine, report
from bench.scenarios import p1

GATES = ("P1",)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--gate", choices=("all", *GATES), default="all")
    parser.add_argument("--quick", action="store_true", help="small sizes, figures not judged")
    options = parser.parse_args()

    results, figures = p1.run(p1.QUICK if options.quick else p1.FULL)
    judged = not options.quick
    facts = machine.describe()
    print(f"{facts['cpu']}, {facts['cores']} cores, kernel {facts['kernel']}")
    print(report.table(results, judged=judged))
    for name, value in figures.items():
        print(f"  {name}: {value}")
    path = report.write(
        "p1-quick" if options.quick else "p1",
        report.document(results, figures, facts, judged=judged),
    )
    print(f"written: {path.relative_to(report.RESULTS.parent.parent)}", file=sys.stderr)
    return 0 if not judged or all(r.passed for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
