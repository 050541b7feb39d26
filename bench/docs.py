"""Publication of a run's figures into docs/, so that no figure is copied by hand.

python -m bench.docs bench/results/bench.json | --check
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from bench.report.document import Document, begin, read, write
from bench.report.markdown import fill
from bench.report.plots import draw

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
PAGES: Final = ("phases.md", "performance.md", "scaling.md")
NAME: Final = "report"


def publish(source: Path, docs: Path = DOCS) -> None:
    """Keep the run at `source` as docs/bench/report.json and generate the pages' blocks from it.

    The picture of the layers is written beside it. Raise ValueError for a run that was not judged:
    its figures mean nothing.
    """
    document = read(source)
    if not document["judged"]:
        raise ValueError(f"{source} is a quick run, whose figures mean nothing")
    folder = docs / "bench"
    write({**document, "name": NAME}, folder)
    layers = draw(document).get("layers")
    if layers is not None:
        (folder / "layers.png").write_bytes(layers)
    for page in PAGES:
        path = docs / page
        path.write_text(fill(path.read_text(encoding="utf-8"), document), encoding="utf-8")


def stale_pages(docs: Path = DOCS) -> list[str]:
    """Return the pages that differ from the kept run, or from an empty run when there is none."""
    path = docs / "bench" / f"{NAME}.json"
    document: Document = read(path) if path.exists() else begin(NAME, {}, judged=True)
    pages = {page: (docs / page).read_text(encoding="utf-8") for page in PAGES}
    return [page for page, now in pages.items() if fill(now, document) != now]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.docs", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("report", nargs="?", type=Path, help="JSON of a judged run")
    what.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        pages = stale_pages()
        for page in pages:
            print(f"docs/{page} differs from docs/bench/{NAME}.json", file=sys.stderr)
        return 1 if pages else 0
    publish(options.report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
