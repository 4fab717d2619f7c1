"""The space of a workload's programs on a target, and the transformations between them.

Everything here is deterministic: TVM's mutators get explicit seeds (``Mutator.apply`` would draw its own).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence, Set
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

import numpy as np
import tvm
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from colt_pipeline.errors import SpaceError
from colt_pipeline.records import Edit, Rejection, Site
from colt_pipeline.space.decisions import ordered, plain, undecided
from colt_pipeline.space.drawn import Drawn
from colt_pipeline.space.draws import MAX_SEED, fresh, sampled, sketches
from colt_pipeline.space.generate import TVM_ERRORS, Designs, generate
from colt_pipeline.space.parallel import ParallelPlans
from colt_pipeline.space.program import Program, Sketch, program_code
from colt_pipeline.space.replay import is_unsound, realize, replay
from colt_pipeline.space.sites import FoundSites, decide, find_sites, moves_blocks, sites_like
from colt_pipeline.space.transformations import TRANSFORMATIONS, Transformation
from colt_pipeline.stack import usable_cores
from colt_pipeline.traces import check_trace, check_trace_json


class Space:
    """All schedules of one workload on one target."""

    def __init__(
        self, module: tvm.IRModule, target: dict[str, Any], additions: Sequence[str] = (), first_traces: bool = False
    ) -> None:
        """Generate the design spaces, TVM's or with additions to them.

        Args:
            module: one PrimFunc ``main``.
            target: TVM's target dict, for example {"kind": "llvm", "num-cores": 2, "mcpu": "znver4"}.
            additions: switches of ``conf/space`` that are on; none = TVM's own design spaces.
            first_traces: of a program that several traces give, show the one that this process drew first, taken or
                not, as when searches in TVM's space were recorded; a resumed run may then word a prompt otherwise.
                False = the one in the journal.
        """
        self.module = module
        self._designs = generate(module, target, tuple(additions))
        self.context = self._designs.context
        mutators = {type(m).__name__: m for m in self.context.space_generator.mutator_probs}
        self._mutators = {t.name: mutators[t.mutator] for t in TRANSFORMATIONS if t.mutator in mutators}
        self._plans = ParallelPlans(module, _most_jobs(mutators.get("MutateParallel"), self.context.target))
        self._own = {t.name: t.mutator for t in TRANSFORMATIONS if not isinstance(t.mutator, str)}
        self.transformations = [t for t in TRANSFORMATIONS if t.name in self._mutators or t.name in self._own]
        """The rows of the table that this target has, whether a program has a place for them or not."""
        self._edited = {t.name: t.edits for t in TRANSFORMATIONS}
        self._programs: dict[str, Program] = {}
        """Those of the search's journal by trace, or by key with `first_traces`."""
        self._first_traces = first_traces
        self._drawn = Drawn(self._designs)
        self._applicable: dict[str, tuple[Transformation, ...]] = {}
        self._sites: dict[str, FoundSites] = {}
        self._sites_of_design: dict[str, FoundSites] = {}

    @property
    def tunable(self) -> bool:
        """Whether a search has anything to decide; for elementwise programs, say, no rule leaves a choice."""
        return self._designs.has_choice

    @cached_property
    def extraction(self) -> ms.TuneContext:
        """For TVM's feature extractor, which looks at many programs side by side."""
        return ms.TuneContext(mod=self.module, target=self.context.target, num_threads=usable_cores())

    @cached_property
    def base_code(self) -> str:
        """The unoptimized program for prompts."""
        return program_code(str(self.module.script(show_meta=False)))

    @cached_property
    def baseline(self) -> tvm.IRModule:
        """The unoptimized program as it can run: on a GPU with TVM's fallback binding to threads and nothing else."""
        if not self._designs.on_gpu:
            return self.module
        schedule = Schedule(self.module, debug_mask="none")
        schedule.enter_postproc()
        bind = next(p for p in self._designs.postprocs if isinstance(p, ms.postproc.RewriteUnboundBlock))
        if not bind.apply(schedule):
            raise SpaceError("TVM finds no way to bind the unoptimized program to GPU threads")
        return schedule.mod

    def refuses(self, program: Program) -> bool:
        """Whether the space leaves out a program that TVM made in it, because it computes something else."""
        return is_unsound(self._designs, program.schedule)

    def initial(self, count: int, rng: np.random.Generator) -> list[Program]:
        """Up to `count` distinct programs, each a fresh sample of a uniformly drawn design space.

        Raises:
            SpaceError: no valid program in 256 attempts per program, on a GPU in 1024 or in 128 replays; or a rule
                makes traces that could not be loaded again.
        """
        programs, rng.bit_generator.state = sampled(self._designs, count, json.dumps(rng.bit_generator.state))
        for program in programs:
            _checked(program.trace_json)
        return [self._keep(p) for p in programs]

    def designs(self, count: int, rng: np.random.Generator) -> list[Program]:
        """Many programs for a cost model to choose from: fresh samples of the design spaces, see `draws.fresh`."""
        programs = fresh(self._designs, count, rng)
        self._drawn.remember(programs)
        return programs

    def sketches(self, programs: Sequence[Program], count: int, rng: np.random.Generator) -> list[Sketch]:
        """Many programs near these that are not made yet, see `draws.sketches`."""
        return sketches(programs, count, rng)

    def make(self, sketched: Sequence[Sketch], count: int, known: Set[str]) -> list[tuple[Sketch, Program]]:
        """The first `count` of these sketches that give valid, distinct programs whose keys are not `known`."""
        found: dict[str, tuple[Sketch, Program]] = {}
        left = iter(sketched)
        while batch := list(islice(left, count - len(found))):
            for sketch, draw in zip(batch, self._drawn.of_sketches(batch), strict=True):
                if draw.key is not None and draw.key not in known and draw.key not in found:
                    found[draw.key] = (sketch, self._drawn.program(draw))
        return list(found.values())

    def load(self, key: str, trace_json: str) -> Program:
        """The program with this key and trace, rebuilt unless this process has just drawn it.

        Raises:
            SpaceError: the trace yields another program: it was recorded for another workload, target or TVM.
        """
        name = key if self._first_traces else trace_json
        if name not in self._programs:
            self._programs[name] = self._drawn.find(trace_json) or self.rebuild(trace_json)
        program = self._programs[name]
        if program.key != key:
            raise SpaceError(f"the recorded trace of program {key[:12]} yields another program with this TVM")
        return program

    def rebuild(self, trace_json: str) -> Program:
        """The program of a trace.

        Raises:
            SpaceError: the trace is of no design space, or does not apply: it was made for another workload, target or
                TVM, or by hand.
        """
        trace = _checked(trace_json)
        design = undecided(trace)
        if design not in _designed(self._designs):
            raise SpaceError(
                "a recorded trace is of no design space that this TVM generates for this workload and target"
            )
        schedule = Schedule(self.module, debug_mask="none")
        try:
            Trace.apply_json_to_schedule(trace, schedule)
        except TVM_ERRORS as error:
            raise SpaceError("a recorded trace does not apply with this TVM") from error
        program = replay(self._designs, schedule.trace, design=design)
        if program is None:
            raise SpaceError("a recorded trace gives a schedule that the target refuses with this TVM")
        return self._keep(program)

    def applicable(self, program: Program) -> tuple[Transformation, ...]:
        """The transformations that find something to change in `program`, in table order."""
        name = program.trace_json
        if name not in self._applicable:
            self._applicable[name] = tuple(t for t in self.transformations if self._finds_something(t, program))
        return self._applicable[name]

    def sites(self, program: Program) -> tuple[Site, ...]:
        """The places in `program` whose decision an edit may set, in the order of its trace."""
        return tuple(site for _, site in self._find_sites(program).values())

    def apply(
        self,
        program: Program,
        edits: Sequence[Edit],
        rng: np.random.Generator,
        attempts: int,
        known: Callable[[str], bool],
        draws: int = 1,
    ) -> list[Program] | Rejection:
        """Apply edits in order; decisions that they leave open are drawn from `rng`.

        Args:
            program: what to edit.
            edits: the edits, in order.
            rng: source of open decisions.
            attempts: attempts per draw.
            known: whether a key belongs to a known program.
            draws: how many programs to return at most.

        Returns:
            Up to `draws` distinct, valid programs that are not yet known; or, if there is none, the last attempt's
            Rejection, of kind ``inapplicable`` or ``duplicate``.
        """
        failure = Rejection("inapplicable", "no attempt was made")
        found: dict[str, Program] = {}
        open_ended = any(edit.site is None for edit in edits)  # otherwise every attempt gives the same program
        left = attempts * draws if open_ended else 1
        while left and len(found) < draws:
            batch = min(left, draws - len(found))  # as many are needed in any case, so they are made side by side
            left -= batch
            changed = [self._changed(program, edits, rng) for _ in range(batch)]
            made = iter(
                self._drawn.of(program.design, [trace for trace in changed if not isinstance(trace, Rejection)])
            )
            for result in (trace if isinstance(trace, Rejection) else next(made) for trace in changed):
                if isinstance(result, Rejection):
                    failure = result
                elif result.key is None:
                    failure = _refusal(edits)
                elif known(result.key) or result.key in found:
                    failure = Rejection("duplicate", f"program {result.key[:12]} is already in the tree")
                else:
                    drawn = self._drawn.program(result)
                    found[result.key] = self._keep(drawn) if self._first_traces else drawn
        return list(found.values()) or failure

    def rollout(self, program: Program, length: int, rng: np.random.Generator, attempts: int, mode: str) -> Program:
        """`program` after uniformly random transformations; `program` itself if no draw is valid.

        Args:
            program: where to start.
            length: number of transformations.
            rng: source of the draws.
            attempts: how often to draw before giving up.
            mode: ``fixed``, or ``exhaustive`` to stop at the first transformation that finds nothing to change.
        """
        offered = [Edit(t.name) for t in self.applicable(program)] if length else []
        if not offered:
            return program
        for _ in range(attempts):
            edits = [offered[i] for i in rng.integers(len(offered), size=length)]
            trace = self._changed(program, edits, rng, mode == "exhaustive")
            if isinstance(trace, Rejection):
                continue
            # Rollouts seldom end at the same program, so caching would only waste memory.
            result = realize(self._designs, trace, design=program.design)
            if result is not None:
                return result
        return program

    def _changed(
        self, program: Program, edits: Sequence[Edit], rng: np.random.Generator, exhaustive: bool = False
    ) -> Trace | Rejection:
        trace = program.trace
        for edit in edits:
            if edit.site is None:
                changed = self._mutate(program, trace, edit.name, int(rng.integers(1, MAX_SEED)))
            else:
                index, site = self._find_sites(program)[edit.site.label]
                changed = decide(trace, index, site, edit.decision)
            if changed is None and exhaustive:
                break
            if changed is None:
                return Rejection("inapplicable", f"{edit} finds nothing to change")
            trace = changed
        return trace

    def _find_sites(self, program: Program) -> FoundSites:
        name = program.trace_json
        if name not in self._sites:
            alike = self._sites_of_design.get(program.design)
            if alike is None:
                self._sites[name] = find_sites(self.module, program.trace)
                if not moves_blocks(program.trace):
                    self._sites_of_design[program.design] = self._sites[name]
            else:
                made = zip(program.decisions.places, program.decisions.values, strict=True)
                self._sites[name] = sites_like(alike, {place.index: value for place, value in made})
        return self._sites[name]

    def _finds_something(self, transformation: Transformation, program: Program) -> bool:
        if transformation.edits:
            return any(inst.kind.name == transformation.edits for inst in program.trace.insts)
        # Half of MutateTileSize's draws find nothing in a trace with few small tiles, as those of the additions are.
        seeds = range(1, 17) if self._designs.switches else (1, 2)
        return any(self._mutate(program, program.trace, transformation.name, seed) for seed in seeds)

    def _mutate(self, program: Program, trace: Trace, name: str, seed: int) -> Trace | None:
        """What a mutator makes of `trace`, which is `program`'s or was drawn from it."""
        edited = self._edited.get(name)
        if edited and all(inst.kind.name != edited for inst in trace.insts):
            return None
        if name in self._own:
            return self._changed_by(name, ordered(trace, program.design), seed)
        if name == "Parallel":
            return self._plans.mutate(program, trace, seed)
        if name == "TileSize":
            trace = ordered(trace, program.design)
        return ms._ffi_api.MutatorApply(self._mutators[name], trace, seed)

    def _changed_by(self, name: str, trace: Trace, seed: int) -> Trace | None:
        """What a user's own transformation makes of a trace, which must be of the same design space."""
        changed = self._own[name](trace, seed)
        if changed is None:
            return None
        made, before = plain(changed.as_json()), plain(trace.as_json())
        if undecided(made) != undecided(before):
            raise SpaceError(
                f"the transformation {name} changed the instructions of a trace; it may change decisions only"
            )
        try:
            check_trace(made)
        except ValueError as error:
            raise SpaceError(f"the transformation {name} makes a trace that cannot be loaded again: {error}") from error
        return changed

    def _keep(self, program: Program) -> Program:
        return self._programs.setdefault(program.key if self._first_traces else program.trace_json, program)


def _most_jobs(mutator: Any, target: tvm.target.Target) -> int:
    """The parallel iterations that MutateParallel allows."""
    return int(mutator.max_jobs_per_core) * int(target.attrs["num-cores"]) if mutator else 0


def _refusal(edits: Sequence[Edit]) -> Rejection:
    named = ", ".join(map(str, edits))
    return Rejection("inapplicable", f"{named} gives a schedule that the target refuses")


@lru_cache(maxsize=8)
def _designed(designs: Designs) -> frozenset[str]:
    """The design spaces, each without its decisions."""
    traces = (trace.simplified(True) for trace in designs.every_trace)
    return frozenset(undecided(plain(trace.as_json())) for trace in traces)


def _checked(trace_json: str) -> Any:
    """The parsed trace."""
    try:
        return check_trace_json(trace_json)
    except ValueError as error:
        raise SpaceError(f"a trace cannot be loaded: {error}") from error
