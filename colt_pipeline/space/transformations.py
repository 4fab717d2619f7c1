"""The table of transformations: the paper's names, bound to TVM MetaSchedule's mutators.

A row is offered on a target when MetaSchedule's default mutators for that target contain its mutator, and for a
program when the mutator finds something to change in the program's trace.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Transformation:
    """One kind of schedule edit; the decision itself is a seeded draw of the mutator."""

    name: str
    mutator: str
    """Class name of the MetaSchedule mutator."""
    description: str
    """What a prompt says about it."""
    edits: str | None = None
    """The one kind of instruction that it edits, where any valid trace that holds one can be edited. The mutator would
    replay the trace, which takes milliseconds, to find that out."""


TRANSFORMATIONS: tuple[Transformation, ...] = (
    Transformation(
        "TileSize", "MutateTileSize", "re-split one tiled loop: move a factor from one of its tiles to another"
    ),
    Transformation(
        "ComputeLocation",
        "MutateComputeLocation",
        "move one producer block to another loop of its consumer, or inline",
        edits="SampleComputeLocation",
    ),
    Transformation("Unroll", "MutateUnroll", "choose another limit for automatic loop unrolling"),
    Transformation("Parallel", "MutateParallel", "choose another grain for running the outer loops in parallel"),
    Transformation("ThreadBinding", "MutateThreadBinding", "choose another number of threads per block"),
)
