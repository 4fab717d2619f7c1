"""Confirmation: the best programs of a search are measured again in turn, to find the best of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from colt_pipeline.measurement.ledger import Ledger


@dataclass(frozen=True)
class Confirmed:
    """A program that was measured again."""

    program: str
    latency_secs: float
    """Median over the rounds of each round's median."""
    rounds: int


def confirmed(ledger: Ledger, programs: Sequence[str]) -> list[Confirmed]:
    """The programs with further rounds, best first; one that failed in a round is none of them."""
    found = []
    for program in programs:
        latencies = [measurement.latency_secs for measurement in ledger.rounds(program)]
        valid = [secs for secs in latencies if secs is not None]
        if valid and len(valid) == len(latencies):
            found.append(Confirmed(program, statistics.median(valid), len(valid)))
    return sorted(found, key=lambda each: each.latency_secs)
