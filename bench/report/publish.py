"""Output of a run: JSON, plots, page."""

from __future__ import annotations

from pathlib import Path

from bench.report.document import RESULTS, Document, write
from bench.report.page import page
from bench.report.plots import draw


def publish(document: Document, folder: Path = RESULTS) -> list[Path]:
    """Write `<name>.json`, `<name>.html` and `<name>-<plot>.png` below `folder`.

    Return their paths.
    """
    name = document["name"]
    written = [write(document, folder)]
    pictures = draw(document)
    for stale in folder.glob(f"{name}-*.png"):  # of a run with other plots
        stale.unlink()
    for plot, png in pictures.items():
        path = folder / f"{name}-{plot}.png"
        path.write_bytes(png)
        written.append(path)
    html = folder / f"{name}.html"
    html.write_text(page(document, pictures), encoding="utf-8")
    return [*written, html]
