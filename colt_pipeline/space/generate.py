"""TVM's own design spaces of a workload on a target, generated once per process."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from colt_pipeline.errors import SpaceError
from colt_pipeline.records import canonical_json
from colt_pipeline.space import intrinsics

_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # TVM reports each rule that does not apply

TVM_ERRORS = (RuntimeError, ValueError, IndexError)
"""What TVM raises for a schedule that cannot be."""


@dataclass(frozen=True, eq=False)
class Designs:
    """What MetaSchedule makes of a workload on a target."""

    module: tvm.IRModule
    context: ms.TuneContext
    """With TVM's default rules, postprocessors and mutators for the target."""
    traces: tuple[Trace, ...]
    """One sample per design space."""
    on_gpu: bool

    @property
    def postprocs(self) -> list[ms.Postproc]:
        return list(self.context.space_generator.postprocs)


def generate(module: tvm.IRModule, target: dict[str, Any]) -> Designs:
    """TVM's design spaces of `module` for `target`.

    Raises:
        SpaceError: TVM generates no design space.
    """
    return _generated(module, canonical_json(target))


@lru_cache(maxsize=16)
def _generated(module: tvm.IRModule, target_json: str) -> Designs:
    """Modules are told apart by identity, which is enough: `workloads.catalogue.build` makes each once."""
    intrinsics.register()
    target = json.loads(target_json)
    said = ""
    for space in ["post-order-apply"] if target["kind"] == "llvm" else _cuda_spaces():
        try:
            context = _context(module, target, space)
            traces = tuple(s.trace for s in context.generate_design_space())
            return Designs(module, context, traces, on_gpu=target["kind"] != "llvm")
        except TVM_ERRORS as error:
            said = str(error).strip().splitlines()[-1]
    raise SpaceError(f"TVM generates no design space of this workload for {target['kind']}: {said}")


def _cuda_spaces() -> Iterator[Any]:
    """TVM's rules for CUDA cores; then without the one that fails in TVM 0.27 on several reductions (attention).

    From sm_80 on TVM itself would add the rules of tensor cores, which match no float32 kernel and cost half a minute
    of parsing their intrinsics.
    """
    rules = list(ms.ScheduleRule.create("cuda"))
    yield ms.space_generator.PostOrderApply(sch_rules=rules, postprocs="cuda", mutator_probs="cuda")
    _log.warning("TVM's rule CrossThreadReduction fails on this workload and is left out")
    rules = [rule for rule in rules if not isinstance(rule, ms.schedule_rule.CrossThreadReduction)]
    yield ms.space_generator.PostOrderApply(sch_rules=rules, postprocs="cuda", mutator_probs="cuda")


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
