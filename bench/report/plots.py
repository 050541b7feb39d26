"""Plots of a run, as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.report.document import Document, SeriesRecord
from bench.report.layers import Layer, layers

_INCHES: Final = (9.0, 5.0)
_DOTS_PER_INCH: Final = 110
_LIMIT_COLOUR: Final = "#5b6b7a"
_LOSS_COLOUR: Final = "#c0504d"
_GAIN_COLOUR: Final = "#4f8f4f"
_PERCENTILES: Final = (0.0, 50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
_LINE_STYLES: Final = ("-", "--", ":", "-.")
_COLOURS: Final = 10


class DrawLines(Protocol):
    def __call__(self, axes: Axes, series: Sequence[SeriesRecord]) -> None: ...


def draw(document: Document) -> dict[str, bytes]:
    """Return every plot that the run has figures for: name → PNG.

    Names are `layers` and, for each scenario, `throughput-P1`, `latency-P1`, `memory-P1` and
    `cost-P1`.
    """
    pictures: dict[str, bytes] = {}
    steps = layers(document)
    if len(steps) > 1:
        pictures["layers"] = _picture(
            "Throughput as each layer is switched on", partial(_waterfall, steps=steps)
        )
    for scenario, record in document["scenarios"].items():
        for plot, (title, draw_lines) in _LINE_PLOTS.items():
            series = [s for s in record["series"] if s["plot"] == plot and len(s["x"]) > 0]
            if series:
                pictures[f"{plot}-{scenario}"] = _picture(
                    f"{scenario}: {title}", partial(draw_lines, series=series)
                )
    return pictures


def _picture(title: str, draw_on: Callable[[Axes], None]) -> bytes:
    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    axes.set_axisbelow(True)
    draw_on(axes)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


# -- lines


def _throughput(axes: Axes, series: Sequence[SeriesRecord]) -> None:
    _lines(axes, series, _numbers)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("concurrency")
    ticks = sorted({x for s in series for x in _numbers(s)})
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.set_ylim(bottom=0)


def _latency(axes: Axes, series: Sequence[SeriesRecord]) -> None:
    """Draw latencies on HdrHistogram's scale: every further nine takes the same width."""
    _lines(axes, series, lambda s: [_nines(x) for x in _numbers(s)])
    axes.set_xscale("log")
    axes.set_yscale("log")
    highest = max(_nines(x) for s in series for x in _numbers(s))
    ticks = [p for p in _PERCENTILES if _nines(p) <= highest]
    axes.set_xticks([_nines(p) for p in ticks], [f"{p:g} %" for p in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.set_xlabel("percentile")


def _nines(percentile: float) -> float:
    """Return 1 for 0 %, 10 for 90 %, 100 for 99 %; the maximum is at 99.999 %."""
    return 1 / (1 - min(percentile, 99.999) / 100)


def _memory(axes: Axes, series: Sequence[SeriesRecord]) -> None:
    _lines(axes, series, _numbers, marker="")
    axes.set_xlabel("seconds")
    axes.set_ylim(bottom=0)


def _cost(axes: Axes, series: Sequence[SeriesRecord]) -> None:
    _lines(axes, series, _numbers)
    axes.set_xlabel("chunks in the upload")
    axes.set_ylim(bottom=0)


def _lines(
    axes: Axes,
    series: Sequence[SeriesRecord],
    x_of: Callable[[SeriesRecord], Sequence[float]],
    marker: str = "o",
) -> None:
    for index, one in enumerate(series):
        axes.plot(
            x_of(one),
            one["y"],
            label=one["name"],
            marker=marker,
            markersize=3,
            linestyle=_LINE_STYLES[index // _COLOURS % len(_LINE_STYLES)],
        )
    axes.set_ylabel(series[0]["unit"])
    axes.legend(fontsize="small")


def _numbers(series: SeriesRecord) -> list[float]:
    return [float(x) for x in series["x"]]


_LINE_PLOTS: Final[dict[str, tuple[str, DrawLines]]] = {
    "throughput": ("throughput against concurrency", _throughput),
    "latency": ("latency percentiles", _latency),
    "memory": ("resident memory", _memory),
    "cost": ("cost of a chunk", _cost),
}


# -- the waterfall


def _waterfall(axes: Axes, steps: Sequence[Layer]) -> None:
    """Draw the limit as a whole bar, then the loss of each layer.

    The axis is logarithmic: bars of equal height are equal ratios.
    """
    floor = 10 ** math.floor(math.log10(min(step.rate for step in steps)))
    axes.set_yscale("log")
    axes.set_ylim(floor, max(step.rate for step in steps) * 1.6)
    for at, step in enumerate(steps):
        before = floor if step.before is None else step.before
        low, high = sorted((before, step.rate))
        colour = (
            _LIMIT_COLOUR
            if step.before is None
            else _GAIN_COLOUR
            if step.rate > step.before
            else _LOSS_COLOUR
        )
        axes.bar(at, high - low, bottom=low, color=colour, width=0.6)
        axes.hlines(step.rate, at - 0.3, at + 1.3 if at + 1 < len(steps) else at + 0.3, color="0.4")
        ratio = "" if step.ratio is None else f"\n× {step.ratio:.2f}"
        axes.annotate(
            f"{step.rate:,.0f} MB/s{ratio}",
            (at, high),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    axes.set_xticks(range(len(steps)), [step.name.replace(" ", "\n", 1) for step in steps])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    axes.set_ylabel("MB/s")
