"""Programs and the space they live in.

A program is the base IRModule plus a schedule trace. Everything here is deterministic: TVM's mutators get explicit
seeds (``Mutator.apply`` would draw its own). A program's key is the sha256 of its text with all that the compiler sees,
so two traces that yield the same text are the same program.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import tvm
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from colt_pipeline.errors import SpaceError
from colt_pipeline.records import Edit, Rejection, Site, canonical_json
from colt_pipeline.space import trace_text
from colt_pipeline.space.generate import TVM_ERRORS, Designs, generate
from colt_pipeline.space.sites import PARALLEL, decide, find_sites
from colt_pipeline.space.soundness import unsound
from colt_pipeline.space.threads import draw_tiles
from colt_pipeline.space.tiling import refused
from colt_pipeline.space.transformations import TRANSFORMATIONS, Transformation
from colt_pipeline.traces import check_trace, check_trace_json

_MAX_SEED = 2**31 - 1
_SAMPLING_ATTEMPTS = 256
_PATIENCE = 4  # times as many attempts on a GPU before it is an error: 1 in 500 fits for FLUX attention on sm_90
_META_OMITTED = "# Metadata omitted."  # TVM's comment in a text that refers to metadata
_FAILURES = 128  # replays on a GPU until sampling gives up; each takes 30 to 200 ms


@dataclass(frozen=True, eq=False)
class Program:
    """A scheduled module with its trace; postprocessors applied."""

    schedule: Schedule
    trace: Trace
    """What mutators edit: the trace without the postprocessors' instructions."""

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
    def trace_json(self) -> str:
        """The trace as canonical JSON."""
        return canonical_json(_plain(self.trace.as_json()))

    @property
    def code(self) -> str:
        """The text for prompts, without import comments and the module frame."""
        return program_code(self.text)

    @property
    def history(self) -> tuple[str, ...]:
        """The trace as ``sch.`` lines."""
        lines = trace_text.text(self.trace).splitlines()
        return tuple(line.strip() for line in lines if "sch." in line and not line.lstrip().startswith("def "))


class Space:
    """All schedules of one workload on one target."""

    def __init__(self, module: tvm.IRModule, target: dict[str, Any], additions: Sequence[str] = ()) -> None:
        """Generate the design spaces, TVM's or with additions to them.

        Args:
            module: one PrimFunc ``main``.
            target: TVM's target dict, for example {"kind": "llvm", "num-cores": 2, "mcpu": "znver4"}.
            additions: switches of ``conf/space`` that are on; none = TVM's own design spaces.
        """
        self.module = module
        self._designs = generate(module, target, tuple(additions))
        self.context = self._designs.context
        mutators = {type(m).__name__: m for m in self.context.space_generator.mutator_probs}
        self._mutators = {t.name: mutators[t.mutator] for t in TRANSFORMATIONS if t.mutator in mutators}
        self._own = {t.name: t.mutator for t in TRANSFORMATIONS if not isinstance(t.mutator, str)}
        self._edited = {t.name: t.edits for t in TRANSFORMATIONS}
        self._by_trace = bool(additions)
        """Whether a program is the one of its trace. In TVM's own space it is the first one with its text that this
        process has seen, as when the recordings were made; a resumed run may then show another trace of a program."""
        self._programs: dict[str, Program] = {}
        self._realized: dict[str, Program | None] = {}
        """Text of the trace -> program; mutators often draw the same trace again."""
        self._applicable: dict[str, tuple[Transformation, ...]] = {}
        self._sites: dict[str, dict[str, tuple[int, Site]]] = {}

    @property
    def tunable(self) -> bool:
        """Whether a search has anything to decide; for elementwise programs, say, no rule leaves a choice."""
        return self._designs.has_choice

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
        return _is_unsound(self._designs, program.schedule)

    def initial(self, count: int, rng: np.random.Generator) -> list[Program]:
        """Up to `count` distinct programs, each a fresh sample of a uniformly drawn design space.

        Raises:
            SpaceError: no valid program in 256 attempts per program, on a GPU in 1024 or in 128 replays; or a rule
                makes traces that could not be loaded again.
        """
        programs, rng.bit_generator.state = _sampled(self._designs, count, json.dumps(rng.bit_generator.state))
        for program in programs:
            _checked(program.trace_json)
        return [self._keep(p) for p in programs]

    def load(self, key: str, trace_json: str) -> Program:
        """The program with this key, rebuilt from its trace if this process has not seen it.

        Raises:
            SpaceError: the trace yields another program: it was recorded for another workload, target or TVM.
        """
        name = trace_json if self._by_trace else key
        if name not in self._programs:
            self._programs[name] = self.rebuild(trace_json)
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
        if _undecided(trace) not in _designed(self._designs):
            raise SpaceError(
                "a recorded trace is of no design space that this TVM generates for this workload and target"
            )
        schedule = Schedule(self.module, debug_mask="none")
        try:
            Trace.apply_json_to_schedule(trace, schedule)
        except TVM_ERRORS as error:
            raise SpaceError("a recorded trace does not apply with this TVM") from error
        program = _replay(self._designs, schedule.trace)
        if program is None:
            raise SpaceError("a recorded trace gives a schedule that the target refuses with this TVM")
        return self._keep(program)

    def applicable(self, program: Program) -> tuple[Transformation, ...]:
        """The transformations that find something to change in `program`, in table order."""
        name = self._name(program)
        if name not in self._applicable:
            self._applicable[name] = tuple(
                t
                for t in TRANSFORMATIONS
                if (t.name in self._mutators or t.name in self._own) and self._finds_something(t, program.trace)
            )
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
        for _ in range(attempts * draws if open_ended else 1):
            result = self._apply_once(program, edits, rng, self._remembered)
            if isinstance(result, Rejection):
                failure = result
            elif known(result.key) or result.key in found:
                failure = Rejection("duplicate", f"program {result.key[:12]} is already in the tree")
            else:
                found[result.key] = self._keep(result)
                if len(found) == draws:
                    break
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
            # Rollouts seldom end at the same program, so caching would only waste memory.
            result = self._apply_once(program, edits, rng, partial(_realize, self._designs), mode == "exhaustive")
            if isinstance(result, Program):
                return result
        return program

    def _apply_once(
        self,
        program: Program,
        edits: Sequence[Edit],
        rng: np.random.Generator,
        realize: Callable[[Trace], Program | None],
        exhaustive: bool = False,
    ) -> Program | Rejection:
        trace = program.trace
        for edit in edits:
            if edit.site is None:
                changed = self._mutate(trace, edit.name, int(rng.integers(1, _MAX_SEED)))
            else:
                index, site = self._find_sites(program)[edit.site.label]
                changed = decide(trace, index, site, edit.decision)
            if changed is None and exhaustive:
                break
            if changed is None:
                return Rejection("inapplicable", f"{edit} finds nothing to change")
            trace = changed
        result = realize(trace)
        named = ", ".join(map(str, edits))
        return result or Rejection("inapplicable", f"{named} gives a schedule that the target refuses")

    def _find_sites(self, program: Program) -> dict[str, tuple[int, Site]]:
        name = self._name(program)
        if name not in self._sites:
            self._sites[name] = find_sites(self.module, program.trace)
        return self._sites[name]

    def _finds_something(self, transformation: Transformation, trace: Trace) -> bool:
        if transformation.edits:
            return any(inst.kind.name == transformation.edits for inst in trace.insts)
        # Half of MutateTileSize's draws find nothing in a trace with few small tiles, as those of the additions are.
        seeds = range(1, 17) if self._by_trace else (1, 2)
        return any(self._mutate(trace, transformation.name, seed) for seed in seeds)

    def _mutate(self, trace: Trace, name: str, seed: int) -> Trace | None:
        edited = self._edited.get(name)
        if edited and all(inst.kind.name != edited for inst in trace.insts):
            return None
        if name in self._own:
            return self._changed_by(name, _ordered(trace), seed)
        return ms._ffi_api.MutatorApply(self._mutators[name], _ordered(trace), seed)

    def _changed_by(self, name: str, trace: Trace, seed: int) -> Trace | None:
        """What a user's own transformation makes of a trace, which must be of the same design space."""
        changed = self._own[name](trace, seed)
        if changed is None:
            return None
        made, before = _plain(changed.as_json()), _plain(trace.as_json())
        if _undecided(made) != _undecided(before):
            raise SpaceError(
                f"the transformation {name} changed the instructions of a trace; it may change decisions only"
            )
        try:
            check_trace(made)
        except ValueError as error:
            raise SpaceError(f"the transformation {name} makes a trace that cannot be loaded again: {error}") from error
        return changed

    def _remembered(self, trace: Trace) -> Program | None:
        """Like `_realize`, cached."""
        key = trace_text.text(trace)
        if key not in self._realized:
            program = _realize(self._designs, trace)
            self._realized[key] = program and self._programs.get(self._name(program), program)
        return self._realized[key]

    def _keep(self, program: Program) -> Program:
        return self._programs.setdefault(self._name(program), program)

    def _name(self, program: Program) -> str:
        return program.trace_json if self._by_trace else program.key


@lru_cache(maxsize=8)
def _designed(designs: Designs) -> frozenset[str]:
    """The design spaces, each without its decisions."""
    traces = (trace.simplified(True) for trace in designs.every_trace)
    return frozenset(_undecided(_plain(trace.as_json())) for trace in traces)


def _undecided(trace: list[Any]) -> str:
    """What no mutator changes: the instructions of a trace without the extent of the parallel loop."""
    return canonical_json([i if i[2] != [PARALLEL] else [i[0], i[1][:1], *i[2:]] for i in trace[0]])


def _checked(trace_json: str) -> Any:
    """The parsed trace."""
    try:
        return check_trace_json(trace_json)
    except ValueError as error:
        raise SpaceError(f"a trace cannot be loaded: {error}") from error


def _realize(designs: Designs, trace: Trace) -> Program | None:
    """The program of `trace`, or None if it is invalid."""
    return None if _refused(designs, trace) else _replay(designs, trace)


def _refused(designs: Designs, trace: Trace) -> bool:
    """Whether the target certainly refuses `trace`, told without a replay."""
    return designs.on_gpu and refused(designs.module, designs.context.target, trace)


def _replay(designs: Designs, trace: Trace, seed: int = 1) -> Program | None:
    """Like `_realize`, but by replaying any trace; `seed` is for decisions that `trace` leaves open."""
    schedule = Schedule(designs.module, seed=seed, debug_mask="none")
    try:
        trace.apply_to_schedule(schedule, remove_postproc=True)
        replayed = schedule.trace.simplified(True)
        schedule.enter_postproc()
        if not all(p.apply(schedule) for p in designs.postprocs):
            return None
    except TVM_ERRORS:  # this combination of decisions is not a schedule
        return None
    if _is_unsound(designs, schedule):
        return None
    return Program(schedule, replayed)


def _is_unsound(designs: Designs, schedule: Schedule) -> bool:
    return "sound" in designs.switches and unsound(schedule.mod)


@lru_cache(maxsize=8)
def _sampled(designs: Designs, count: int, rng_state: str) -> tuple[tuple[Program, ...], Mapping[str, Any]]:
    """Distinct samples, and the generator's state afterwards; cached, because runs of one seed begin alike."""
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(rng_state)
    found: dict[str, Program] = {}
    samples = failed = 0
    limit = _SAMPLING_ATTEMPTS * count
    while len(found) < count and samples < limit * (1 if found or not designs.on_gpu else _PATIENCE):
        if designs.on_gpu and not found and failed == _FAILURES:
            break
        samples += 1
        trace = designs.traces[int(rng.integers(len(designs.traces)))]
        # On a GPU the sampled decisions are needed, because they determine the extents of the tiles.
        trace = draw_tiles(trace, rng) if designs.on_gpu else Trace(trace.insts, {})
        seed = int(rng.integers(1, _MAX_SEED))
        if _refused(designs, trace):
            continue
        program = _replay(designs, trace, seed)
        if program is None:
            failed += 1
        else:
            found.setdefault(program.key, program)
    if not found:
        raise SpaceError(
            f"no valid initial program in {samples} samples of {len(designs.traces)} design spaces; try another shape "
            "or target"
        )
    return tuple(found.values()), rng.bit_generator.state


def program_code(text: str) -> str:
    """TVMScript for prompts: dedented, without the module frame, comments, and what the statements imply.

    Access regions (``T.reads``, ``T.writes``) and MetaSchedule's internal annotations make up a quarter of the text.
    """
    noise = ("@I.ir_module", "class Module:", "#", "T.reads(", "T.writes(", "T.func_attr(", 'T.sblock_attr({"meta_sch')
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith(noise)]
    return "\n".join(line[4:] if line.startswith("    ") else line for line in lines)


def _ordered(trace: Trace) -> Trace:
    """`trace` with its decisions in the order of its instructions.

    MutateTileSize draws by position in the map of decisions, and TVM's operations leave that map in an order that
    depends on memory addresses; otherwise the same seed would give different programs in different processes.
    """
    decided = ((inst, trace.get_decision(inst)) for inst in trace.insts)
    return Trace(trace.insts, {inst: decision for inst, decision in decided if decision is not None})


def _plain(value: Any) -> Any:
    """TVM's containers and constants as lists, numbers and strings."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "value"):
        return value.value
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value]
