"""Confirmation: the best programs of a search are measured again in turn, to find the best of them.

A search keeps the minimum of many noisy latencies, which is too low: the program that was lucky wins. So at the end of
a run its best programs are measured `ROUNDS` times more, each round in another order, so that a drift of the machine
affects all of them alike. These measurements are further rounds of the run's own ledger. The search never sees them,
and a replay reads them.

Programs that were confirmed before a run went on (with a higher limit of its budget) keep their rounds, and may still
be the best. Results depend on what is recorded alone, not on ``measure.confirm``, which says how much to measure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from colt_pipeline.measurement.ledger import Ledger
from colt_pipeline.records import Measurement
from colt_pipeline.runs.events import Sample

ROUNDS = 10


@dataclass(frozen=True)
class Confirmed:
    """A program that was measured again."""

    program: str
    latency_secs: float
    """Median over the rounds of each round's median."""
    rounds: int


class _Program(Protocol):
    @property
    def key(self) -> str: ...


P = TypeVar("P", bound=_Program)
P_contra = TypeVar("P_contra", bound=_Program, contravariant=True)


class Remeasures(Protocol[P_contra]):
    """An evaluator that can measure a program once more."""

    @property
    def ledger(self) -> Ledger: ...
    def remeasure(self, programs: Sequence[P_contra]) -> None: ...


def candidates(samples: Sequence[Sample], ledger: Ledger, count: int) -> list[str]:
    """Keys of up to `count` distinct programs of a search, the fastest first.

    A program whose timing was cut short, because it was clearly slower than the best, is none of them.
    """
    valid = {s.program: s.latency_secs for s in samples if s.latency_secs is not None}
    known = {key: ledger.get(key) for key in valid}
    whole = [key for key, measurement in known.items() if measurement is None or measurement.stop != "slower"]
    return sorted(whole, key=lambda key: valid[key])[:count]


def confirmed(ledger: Ledger, programs: Sequence[str]) -> list[Confirmed]:
    """The programs with further rounds, best first; one that failed in a round is none of them.

    Args:
        ledger: of a run.
        programs: keys of the programs of its search.
    """
    found = []
    for program in programs:
        latencies = [measurement.latency_secs for measurement in ledger.rounds(program)]
        valid = [secs for secs in latencies if secs is not None]
        if valid and len(valid) == len(latencies):
            found.append(Confirmed(program, statistics.median(valid), len(valid)))
    return sorted(found, key=lambda each: each.latency_secs)


def confirm(evaluator: Remeasures[P], programs: Sequence[P]) -> Iterator[int]:
    """Measure the programs again until each has `ROUNDS` further rounds, or has failed in one.

    Yields:
        After each round, its number; whatever was measured before it is on disk.
    """
    ledger = evaluator.ledger
    for number in range(1, ROUNDS + 1):
        first = number % len(programs) if programs else 0
        turn = [p for p in (*programs[first:], *programs[:first]) if _lacks(ledger.rounds(p.key), number)]
        if turn:
            evaluator.remeasure(turn)
            yield number


def _lacks(rounds: Sequence[Measurement], number: int) -> bool:
    return len(rounds) < number and all(measurement.latency_secs is not None for measurement in rounds)
