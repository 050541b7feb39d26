"""Arguments of `python -m bench.capacity`, and what it prints for a run. Pure."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.capacity.costs import checks, read_costs
from bench.capacity.model import Allowance, Integrity, Load
from bench.capacity.output import Model, as_json, text
from bench.capacity.shipped import read_shipped
from bench.report.document import Document
from bench.units import MB

ROOT: Final = Path(__file__).resolve().parents[2]
KEPT_RUN: Final = "docs/bench/report.json"
DESCRIPTION: Final = (
    "Pods, Redis servers, Kafka partitions and S3 prefixes that a load needs; what breaks first"
)
GB: Final = 1000 * MB


def build_model(document: Document, allowance: Allowance, where: str) -> Model:
    """Return the model of a run. Raise NotMeasuredError."""
    costs, machine = read_costs(document), document["machine"]
    source = f"{where}, commit {machine.get('commit')}, {machine.get('measured_at')}"
    return Model(costs, checks(document, costs), read_shipped(), allowance, source)


def loads_of(model: Model, options: argparse.Namespace) -> list[Load]:
    """Return one load per rate; what is not given is that of the run's own loads."""
    return [
        Load(
            bytes_per_second=rate * GB,
            objects=options.objects,
            file_bytes=options.mean_file_bytes or model.costs.photo_bytes,
            photo_share=options.photo_share,
            stream_bytes_per_second=(
                options.stream_mb_per_second * MB
                if options.stream_mb_per_second
                else model.costs.stream_bytes_per_second
            ),
            integrity=options.integrity,
        )
        for rate in options.gb_per_second
    ]


def _number(is_valid: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def parse_number(given: str) -> float:
        value = float(given)
        if not math.isfinite(value) or not is_valid(value):
            raise argparse.ArgumentTypeError(f"{given} is not {wanted}")
        return value

    return parse_number


_POSITIVE: Final = _number(lambda value: value > 0, "more than 0")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.capacity", description=DESCRIPTION)
    parser.add_argument(
        "--gb-per-second", type=_POSITIVE, nargs="+", default=[1.0, 10.0, 100.0], metavar="RATE"
    )
    parser.add_argument("--objects", type=_POSITIVE, default=1e9, help="stored in all")
    parser.add_argument(
        "--mean-file-bytes", type=_POSITIVE, help="default: the mean photo of the run"
    )
    parser.add_argument(
        "--photo-share",
        type=_number(lambda value: 0 <= value <= 1, "from 0 to 1"),
        default=1.0,
        help="fraction of the files that the processor decodes",
    )
    parser.add_argument(
        "--stream-mb-per-second", type=_POSITIVE, help="of one client; default: that of OPEN"
    )
    parser.add_argument(
        "--integrity", type=Integrity, choices=[*Integrity], default=Integrity.SHA256_ASYNC
    )
    parser.add_argument("--core-share", type=_POSITIVE, default=1.0, help="cores of a pod")
    parser.add_argument(
        "--headroom",
        type=_number(lambda value: 0 <= value < 1, "from 0 to below 1"),
        default=0.3,
        help="fraction that stays free of pods, servers and the byte budget",
    )
    parser.add_argument("--report", type=Path, default=ROOT / KEPT_RUN, help="JSON of a judged run")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def output(document: Document, where: str, arguments: Sequence[str] | None) -> str:
    """Return what the program prints for a run; None means the arguments of this process.

    Raise NotMeasuredError, and ValueError for a quick run, whose figures mean nothing.
    """
    if not document["judged"]:
        raise ValueError(f"{where} is a quick run, whose figures mean nothing")
    options = parse(arguments)
    model = build_model(document, Allowance(options.core_share, options.headroom), where)
    loads = loads_of(model, options)
    if options.json:
        return json.dumps(as_json(model, loads), indent=2)
    return text(model, loads)
