"""Programs: the unscheduled module with a trace applied, and their texts.

A program's key is the sha256 of its text with all that the compiler sees, so two traces that yield the same text are
the same program. Texts are printed only when something asks for them: a search draws many programs and keeps few.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace
from tvm_ffi import structural_hash

from colt_pipeline.space import trace_text
from colt_pipeline.space.decisions import Decisions, Values, plain, undecided

_META_OMITTED = "# Metadata omitted."  # TVM's comment in a text that refers to metadata


@dataclass(frozen=True, eq=False)
class Program:
    """A scheduled module with its trace; postprocessors applied."""

    schedule: Schedule
    trace: Trace
    """What mutators edit: the trace without the postprocessors' instructions."""
    known_design: str = ""
    """`design`, if whoever made the program knows it: programs that are drawn from another share its design."""
    before: tvm.IRModule | None = None
    """The scheduled module before the postprocessors."""

    @cached_property
    def text(self) -> str:
        """The scheduled module as TVMScript."""
        return str(self.schedule.mod.script(show_meta=False))

    @cached_property
    def key(self) -> str:
        """sha256 of the text, with the metadata if there is any: the compiler sees it, too."""
        text = self.text
        if _META_OMITTED in text:
            text = str(self.schedule.mod.script(show_meta=True))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def structure(self) -> int:
        """TVM's hash of the module: equal for equal programs, in this process; a tenth of the time of a key."""
        return int(structural_hash(self.schedule.mod))

    @cached_property
    def decisions(self) -> Decisions:
        return Decisions.of(self.trace, self.design)

    @cached_property
    def design(self) -> str:
        """The trace without its decisions."""
        return self.known_design or undecided(plain(self.trace.as_json()))

    @cached_property
    def point(self) -> Point:
        """Where it lies among the programs of its design."""
        return Point(self.design, self.decisions.coordinates(self.decisions.values))

    @cached_property
    def trace_json(self) -> str:
        """The trace as canonical JSON."""
        return self.decisions.as_json()

    @property
    def code(self) -> str:
        """The text for prompts, without import comments and the module frame."""
        return program_code(self.text)

    @property
    def history(self) -> tuple[str, ...]:
        """The trace as ``sch.`` lines."""
        lines = trace_text.text(self.trace).splitlines()
        return tuple(line.strip() for line in lines if "sch." in line and not line.lstrip().startswith("def "))


@dataclass(frozen=True, eq=False)
class Point:
    """A program's decisions as numbers; programs of one design have equally many."""

    design: str
    coordinates: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sketch:
    """A program that was not made: decisions of others, changed. It may turn out to be invalid."""

    parents: tuple[int, ...]
    """Which programs it was drawn from: one that was mutated, or two of which each decision is from either."""
    like: Program
    """The first of them."""
    values: Values

    @cached_property
    def trace(self) -> Trace:
        return self.like.decisions.made(self.values)

    @cached_property
    def point(self) -> Point:
        """Where the program would lie."""
        return Point(self.like.design, self.like.decisions.coordinates(self.values))


def program_code(text: str) -> str:
    """TVMScript for prompts: dedented, without the module frame, comments, and what the statements imply.

    Access regions (``T.reads``, ``T.writes``) and MetaSchedule's internal annotations make up a quarter of the text.
    """
    noise = ("@I.ir_module", "class Module:", "#", "T.reads(", "T.writes(", "T.func_attr(", 'T.sblock_attr({"meta_sch')
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith(noise)]
    return "\n".join(line[4:] if line.startswith("    ") else line for line in lines)
