"""What a search drew from its programs: mutators often draw the same trace again, and most draws are not taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import tvm
from tvm.s_tir.schedule import Trace

from colt_pipeline.space.decisions import Values, places, values_of
from colt_pipeline.space.generate import Designs
from colt_pipeline.space.program import Program, Sketch
from colt_pipeline.space.replay import realize, side_by_side

_LATEST = 1024
"""Programs that are kept in case they are taken or drawn again; each has some 50 KB."""

Name = tuple[str, Values]
"""Design and values of the decisions: equal for equal traces."""


@dataclass(frozen=True)
class Draw:
    """A trace that was drawn."""

    name: Name
    trace: Trace
    key: str | None
    """The program's key; None if the trace gives no program."""


class Drawn:
    """The draws of one search. Whatever is forgotten is made again, so nothing depends on what was drawn before."""

    def __init__(self, designs: Designs) -> None:
        self._designs = designs
        self._keys: dict[Name, str | None] = {}
        self._latest: deque[Program] = deque(maxlen=_LATEST)
        self._programs: WeakValueDictionary[Name, Program] = WeakValueDictionary()

    def of(self, design: str, traces: Sequence[Trace]) -> list[Draw]:
        """Traces that were drawn from a program of this design, with their keys."""
        return self._draws([(design, values_of(trace, places(design))) for trace in traces], traces)

    def of_sketches(self, sketched: Sequence[Sketch]) -> list[Draw]:
        """Sketches, with their keys."""
        return self._draws([(each.like.design, each.values) for each in sketched], [each.trace for each in sketched])

    def _draws(self, names: Sequence[Name], traces: Sequence[Trace]) -> list[Draw]:
        new = {name: trace for name, trace in zip(names, traces, strict=True) if name not in self._keys}
        made = side_by_side(self._designs, self._keyed, [(name, trace) for name, trace in new.items()])
        for name, drawn in zip(new, made, strict=True):
            self._keys[name] = drawn.key if drawn else None
            if drawn is not None:
                self._programs[name] = drawn
        self.remember(filter(None, made))
        return [Draw(name, trace, self._keys[name]) for name, trace in zip(names, traces, strict=True)]

    def program(self, draw: Draw) -> Program:
        """The program of a draw that gives one."""
        program = self._programs.get(draw.name)
        if program is None:
            program = realize(self._designs, draw.trace, design=draw.name[0])
            assert program is not None
            self._programs[draw.name] = program
            self.remember([program])
        return program

    def remember(self, programs: Iterable[Program]) -> None:
        """Keep programs for a while."""
        self._latest.extend(programs)

    def find(self, trace_json: str) -> Program | None:
        """The program with this trace, if it is among the latest and somebody has asked it for its trace."""
        return next((program for program in self._latest if vars(program).get("trace_json") == trace_json), None)

    def _keyed(self, named: tuple[Name, Trace], module: tvm.IRModule) -> Program | None:
        (design, _), trace = named
        program = realize(self._designs, trace, design=design, module=module)
        if program is not None:
            program.key  # noqa: B018  printed here, side by side
        return program
