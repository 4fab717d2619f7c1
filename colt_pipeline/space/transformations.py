"""The table of transformations: the paper's names, bound to TVM MetaSchedule's mutators.

A row is offered on a target if MetaSchedule's default mutators for that target include its mutator, and for a program
if the mutator finds something to change in the program's trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports TVM
    from tvm.s_tir.schedule import Trace

Mutator = Callable[["Trace", int], "Trace | None"]
"""(trace, seed) -> another trace; None if it finds nothing to change."""


@dataclass(frozen=True)
class Transformation:
    """One kind of schedule edit; the decision itself is a seeded draw of the mutator."""

    name: str
    mutator: str | Mutator
    """Class name of the MetaSchedule mutator; or a user's own function, see `colt_pipeline.registry`."""
    description: str
    """What a prompt says about it."""
    decided: str = ""
    """The same where answers take decisions; "" = `description`."""
    edits: str | None = None
    """The only kind of instruction that it edits, if every valid trace with one can be edited: the mutator would replay
    the trace, which takes milliseconds, to find that out."""


TRANSFORMATIONS: list[Transformation] = [
    Transformation(
        "TileSize",
        "MutateTileSize",
        "re-split one tiled loop: move a factor from one of its tiles to another",
        "split one loop anew: all of its factors, from the outermost to the innermost; their product is the loop's "
        "extent, and the last has a limit",
    ),
    Transformation(
        "ComputeLocation",
        "MutateComputeLocation",
        "move one producer block to another loop of its consumer, or inline",
        "compute one producer block elsewhere: in the loop of its consumer with this number, 0 being the outermost; "
        "-1 = in loops of its own; -2 = inlined",
        edits="SampleComputeLocation",
    ),
    Transformation(
        "Unroll",
        "MutateUnroll",
        "choose another limit for automatic loop unrolling",
        "unroll inner loops with at most this many steps together",
    ),
    Transformation(
        "Parallel",
        "MutateParallel",
        "choose another grain for running the outer loops in parallel",
        "fuse outer loops into one parallel loop with at most this many iterations",
    ),
    Transformation(
        "ThreadBinding",
        "MutateThreadBinding",
        "choose another number of threads per block",
        "set the number of threads per block",
    ),
]
