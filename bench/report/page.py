"""One self-contained HTML page with a whole run. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from bench.report.document import Document, ScenarioRecord, failures, gates
from bench.report.flat import flatten
from bench.report.layers import Layer, layers
from bench.report.table import HEADINGS, row, verdict

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #1c2430; background: #fff; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5dae1; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top;
         border-bottom: 1px solid #e6e9ee; }
td.fail { color: #b3261e; font-weight: 600; }
td.pass { color: #1d6b34; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
summary { cursor: pointer; }
"""


def page(document: Document, pictures: Mapping[str, bytes]) -> str:
    """Return the page. `pictures`: name → PNG, as `plots.draw` makes them."""
    title = f"Sluice: throughput gates, {document['name']}"
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f"<p>{escape(_summary(document))}</p>",
            "<h2>Gates</h2>",
            _gate_table(document),
            *_layer_section(layers(document), pictures),
            *(
                _scenario_section(name, record, pictures)
                for name, record in document["scenarios"].items()
            ),
            "<h2>Machine, versions, settings</h2>",
            _table(("", ""), flatten(document["machine"])),
            "</body></html>",
            "",
        )
    )


def _summary(document: Document) -> str:
    measured = len(gates(document))
    if not document["judged"]:
        return f"A quick run: {measured} figures, none judged. It shows that everything runs."
    failed = failures(document)
    if failed:
        return f"{len(failed)} of {measured} gates failed: {', '.join(failed)}."
    return f"All {measured} gates passed."


def _gate_table(document: Document) -> str:
    classes = {"FAIL": "fail", "pass": "pass", "pass, aim reached": "pass"}
    lines = ['<div class="wide"><table>', _row("th", HEADINGS)]
    for gate in gates(document):
        cells = [
            f'<td class="{classes.get(cell, "")}">{escape(cell)}</td>'
            if cell == verdict(gate)
            else f"<td>{escape(cell)}</td>"
            for cell in row(gate)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join((*lines, "</table></div>"))


def _layer_section(steps: Sequence[Layer], pictures: Mapping[str, bytes]) -> list[str]:
    if "layers" not in pictures:
        return []
    rows = (
        (
            step.name,
            f"{step.rate:,.0f}",
            "" if step.ratio is None else f"{step.ratio:.2f}",
            f"{step.added_us_per_mib:+,.0f}",
        )
        for step in steps
    )
    headings = ("layer", "MB/s", "of the layer before", "µs per MiB that it adds")
    return [
        "<h2>Cost per layer</h2>",
        _image("layers", pictures["layers"]),
        _table(headings, rows),
    ]


def _scenario_section(name: str, record: ScenarioRecord, pictures: Mapping[str, bytes]) -> str:
    mine = [_image(key, png) for key, png in pictures.items() if key.endswith(f"-{name}")]
    return "\n".join(
        (
            f"<h2>{escape(name)}</h2>",
            f"<p>Measured {escape(record['measured_at'])}, in {record['seconds']:g} s.</p>",
            *mine,
            "<details><summary>All figures</summary>",
            _table(("figure", "value"), flatten(record["figures"])),
            "</details>",
        )
    )


def _image(name: str, png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<p><img alt="{escape(name)}" src="data:image/png;base64,{data}"></p>'


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(
        (
            '<div class="wide"><table>',
            _row("th", headings) if any(headings) else "",
            *(_row("td", cells) for cells in rows),
            "</table></div>",
        )
    )


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
