"""The design spaces of a workload on a target, TVM's or with additions, generated once per process."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import tvm
import tvm_ffi
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from colt_pipeline.errors import SpaceError
from colt_pipeline.serialization import canonical_json
from colt_pipeline.space import intrinsics
from colt_pipeline.space.additions import additions
from colt_pipeline.space.rules.unrolling import with_less_unrolling
from colt_pipeline.space.threads import misfit

_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # TVM reports every rule that does not apply

TVM_ERRORS = (RuntimeError, ValueError, IndexError)
"""What TVM raises for an invalid schedule."""

_SAMPLING = "Sample"
"""How the names of instructions begin whose outcome a search chooses."""

_REDUCTION, _TILING = ms.schedule_rule.CrossThreadReduction, ms.schedule_rule.MultiLevelTiling
_LEFT_OUT: tuple[tuple[type, ...], ...] = ((), (_REDUCTION,), (_TILING,), (_TILING, _REDUCTION))
"""The rules for CUDA to do without, in the order in which it is tried.

CrossThreadReduction fails in TVM 0.27 on several reductions (attention). MultiLevelTiling divides loops without a
remainder and wants at least 32 threads, which large prime extents rule out. Without it, AutoBind fuses the spatial
loops and splits them with a remainder: programs for any extent, although without reuse in shared memory."""

_Attempt = tuple[str, Callable[[], Any]]
"""What was left out of TVM's rules, in words ("" = nothing), and a factory of the generator of design spaces."""


@dataclass(frozen=True, eq=False)
class Designs:
    """The design spaces of a workload on a target."""

    module: tvm.IRModule
    context: ms.TuneContext
    """With the rules that made them, and TVM's default postprocessors and mutators for the target."""
    every_trace: tuple[Trace, ...]
    """One sample per design space."""
    traces: tuple[Trace, ...]
    """The same, on a GPU without those that `misfit` names."""
    on_gpu: bool
    switches: tuple[str, ...] = ()
    """Those of ``conf/space`` that are on."""

    @property
    def has_choice(self) -> bool:
        """Whether there is anything to decide, see `leave_choice`."""
        return leave_choice(self.every_trace)

    @property
    def postprocs(self) -> list[ms.Postproc]:
        return list(self.context.space_generator.postprocs)


def leave_choice(traces: Iterable[Trace]) -> bool:
    """Whether there is anything to decide: some design space samples, say, the sizes of tiles."""
    return any(inst.kind.name.startswith(_SAMPLING) for trace in traces for inst in trace.insts)


def generate(module: tvm.IRModule, target: dict[str, Any], switches: tuple[str, ...] = ()) -> Designs:
    """The design spaces of `module` for `target`, generated once per process.

    Args:
        module: one PrimFunc ``main``.
        target: TVM's target dict.
        switches: those of ``conf/space`` that are on; none = TVM's design spaces.

    Raises:
        SpaceError: TVM generates no design space.
    """
    return _generated(module, canonical_json(target), switches)


@lru_cache(maxsize=16)
def _generated(module: tvm.IRModule, target_json: str, switches: tuple[str, ...]) -> Designs:
    """Cached by the identity of the module, which suffices because `workloads.catalogue.build` makes each only once."""
    intrinsics.register()
    target = json.loads(target_json)
    return _from_additions(module, target, switches) or _from_tvm(module, target, switches)


def _from_additions(module: tvm.IRModule, target: dict[str, Any], switches: tuple[str, ...]) -> Designs | None:
    """The design spaces that the first addition makes which applies; None if none does."""
    kind = target["kind"]
    for addition in additions(kind, switches):
        try:
            if not addition.applies(Schedule(module, debug_mask="none")):
                continue
            space = ms.space_generator.PostOrderApply(
                sch_rules=addition.rules(switches), postprocs=kind, mutator_probs=kind
            )
            context = _context(module, target, space)
            traces = tuple(s.trace for s in context.generate_design_space())
        except TVM_ERRORS as error:
            _log.warning("the design space has no %s: %s", addition.switch, _said(error))
            continue
        if traces:
            return Designs(module, context, traces, traces, kind != "llvm", switches)
    return None


def _from_tvm(module: tvm.IRModule, target: dict[str, Any], switches: tuple[str, ...]) -> Designs:
    on_gpu = target["kind"] != "llvm"
    said = ""
    for without, make_space in _gpu_spaces() if on_gpu else _cpu_spaces(module):
        try:
            context = _context(module, target, make_space())
            if "sound" in switches and not on_gpu:
                context = _context(module, target, _unrolled_less(context.space_generator))
            traces = tuple(s.trace for s in context.generate_design_space())
        except TVM_ERRORS as error:
            said = _said(error)
            continue
        misfits = {trace: misfit(trace) for trace in traces} if on_gpu else {}
        drawable = tuple(trace for trace in traces if not misfits.get(trace))
        if traces and not drawable:
            said = misfits[traces[0]]
            continue
        if without:
            _log.warning("TVM's rules for this workload are used without %s: %s", without, said)
        return Designs(module, context, traces, drawable, on_gpu, switches)
    raise SpaceError(f"TVM generates no design space of this workload for {target['kind']}: {said}")


def _said(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].removeprefix("Error message: ").partition(". ")[0]


def _gpu_spaces() -> Iterator[_Attempt]:
    for left_out in _LEFT_OUT:
        yield " and ".join(rule.__name__ for rule in left_out), partial(_cuda_space, left_out)


def _cuda_space(left_out: tuple[type, ...]) -> ms.space_generator.PostOrderApply:
    """TVM's rules for CUDA cores, without some.

    From sm_80 on, TVM itself would add the tensor core rules, which match no float32 kernel and cost half a minute of
    parsing intrinsics.
    """
    rules = [rule for rule in ms.ScheduleRule.create("cuda") if not isinstance(rule, left_out)]
    return ms.space_generator.PostOrderApply(sch_rules=rules, postprocs="cuda", mutator_probs="cuda")


def _cpu_spaces(module: tvm.IRModule) -> Iterator[_Attempt]:
    """TVM's rules for the CPU; for integers of 8 bits those without tensor intrinsics.

    With AVX-512 or VNNI, TVM 0.27 tiles products of such integers for intrinsics whose code LLVM refuses, or which
    saturate and give wrong sums. Where a block consumes two tiled ones, such as silu(gate) * up, it fails because it
    moves the block into the loops of one of them.
    """
    yield "", partial(_llvm_space, "llvm") if _has_bytes(module) else lambda: "post-order-apply"
    yield "fusing consumers into tiles", partial(_llvm_space, _without_fusion())


def _llvm_space(rules: str | list[ms.ScheduleRule]) -> ms.space_generator.PostOrderApply:
    return ms.space_generator.PostOrderApply(sch_rules=rules, postprocs="llvm", mutator_probs="llvm")


def _unrolled_less(space: ms.space_generator.SpaceGenerator) -> ms.space_generator.PostOrderApply:
    """The same rules otherwise: which ones TVM has for a CPU depends on its instructions."""
    return ms.space_generator.PostOrderApply(
        sch_rules=with_less_unrolling(space.sch_rules),
        postprocs=list(space.postprocs),
        mutator_probs=dict(space.mutator_probs),
    )


def _without_fusion() -> list[ms.ScheduleRule]:
    """TVM's rules for the CPU with the same tiling, which leaves consumers where they are."""
    return [
        _TILING(rule.structure, max_innermost_factor=rule.max_innermost_factor) if isinstance(rule, _TILING) else rule
        for rule in ms.ScheduleRule.create("llvm")
    ]


def _has_bytes(module: tvm.IRModule) -> bool:
    types = set()
    tvm_ffi.structural_walk(
        module["main"].body, [(tvm.ir.expr.TensorLoad, lambda load: types.add(str(load.source.ty.dtype)))]
    )
    return not types.isdisjoint({"int8", "uint8"})


def _context(module: tvm.IRModule, target: dict[str, Any], space: Any) -> ms.TuneContext:
    return ms.TuneContext(
        mod=module,
        target=tvm.target.Target(target),
        space_generator=space,
        search_strategy="evolutionary",
        task_name="main",
        rand_state=1,
        num_threads=1,
        logger=_log,
    )
