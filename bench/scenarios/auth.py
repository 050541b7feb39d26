"""Scenario AUTH: the cost of authentication, with and without it in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

from bench.deployment import Deployment, deployment
from bench.gates import AUTH_SMALL, AUTH_STREAM, AUTH_UNARY, Result
from bench.identity import Identity, identity
from bench.measurement import Load, Measured, measure, rounds, spread_of, text_of
from bench.scenario import Effort, Outcome
from bench.scenarios import common, files, small
from bench.scenarios.files import Sent, folder_of, through_sluice

WITHOUT: Final = "without"
JWT: Final = "jwt"

T = TypeVar("T")
Sides = Mapping[str, Deployment]
Pair = Mapping[str, T]


@dataclass(frozen=True, slots=True)
class Round:
    stream: Pair[Measured]
    unary: Pair[Measured]
    small: Pair[Sent]


def ratio(pair: Mapping[str, Measured | Sent]) -> float:
    """Throughput with authentication ÷ without."""
    return pair[JWT].rate / pair[WITHOUT].rate


def in_turns(sides: Sides, turn: int, one: Callable[[Deployment], T]) -> dict[str, T]:
    """Measure both sides; every other turn begins with the other one, so that neither is always
    measured on the caches and in the memory that the first one leaves.
    """
    order = sorted(sides, reverse=bool(turn % 2))
    return {side: one(sides[side]) for side in order}


def _sides(stack: ExitStack, phase: int, keys: Identity, **settings: str) -> Sides:
    return {
        WITHOUT: stack.enter_context(deployment(phase, **settings)),
        JWT: stack.enter_context(deployment(phase, keys, **settings)),
    }


def run(effort: Effort) -> Outcome:
    """Measure the stream and the unary load of P1, and the files of SMALL.

    Both deployments of a pair run for the whole measurement. The token is signed with HS256 and
    carried by every call; a server verifies it once and finds it in its cache afterwards, as it
    does with the tokens of its users. The files go through the SDK.
    """
    number = 20 if effort.quick else 1000
    turns = count()
    with (
        ExitStack() as stack,
        identity() as keys,
        folder_of([small.FILE_BYTES] * number) as folder,
        folder_of([] if effort.quick else [small.FILE_BYTES] * 100, seed=2) as few,
    ):
        alone = _sides(stack, 1, keys)
        whole = _sides(stack, 6, keys, SLUICE_EVENTS="off")

        def one_round(own: Effort) -> Round:
            return _round(alone, whole, own, folder if own is effort else few, next(turns))

        measured = rounds("AUTH", effort, one_round)
    return Outcome(
        results=[
            Result(AUTH_STREAM, spread_of(measured, lambda r: ratio(r.stream))),
            Result(AUTH_UNARY, spread_of(measured, lambda r: ratio(r.unary))),
            Result(AUTH_SMALL, spread_of(measured, lambda r: ratio(r.small))),
        ],
        figures={
            "rounds": len(measured),
            "files": number,
            "file_bytes": small.FILE_BYTES,
            **{
                f"{name}_{side}": figures
                for side in (WITHOUT, JWT)
                for name, figures in {
                    "stream": common.figures_of([r.stream[side] for r in measured]),
                    "unary": common.figures_of([r.unary[side] for r in measured]),
                    "small": files.figures_of([r.small[side] for r in measured]),
                }.items()
            },
            "stream_cpu_ratio": text_of(measured, lambda r: _cpu_ratio(r.stream), 2),
            "unary_cpu_ratio": text_of(measured, lambda r: _cpu_ratio(r.unary), 2),
        },
    )


def _cpu_ratio(pair: Pair[Measured]) -> float:
    """CPU time of the intake with authentication ÷ without."""
    return pair[JWT].usage["intake"].cpu_seconds / pair[WITHOUT].usage["intake"].cpu_seconds


def _round(alone: Sides, whole: Sides, effort: Effort, folder: Path, turn: int) -> Round:
    stream = common.one_stream(effort, complete=False)
    unary = replace(Load(chunks=common.chunks(effort)), unary=True)
    return Round(
        stream=in_turns(alone, turn, lambda sluice: measure(sluice, stream)),
        unary=in_turns(alone, turn, lambda sluice: measure(sluice, unary)),
        small=in_turns(
            whole,
            turn,
            lambda sluice: through_sluice(sluice, folder, in_flight=small.IN_FLIGHT),
        ),
    )
