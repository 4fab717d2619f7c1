"""TVM's own design spaces of a workload on a target."""

from __future__ import annotations

import logging
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from colt_pipeline.errors import SpaceError
from colt_pipeline.space import intrinsics

_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # TVM reports each rule that does not apply

TVM_ERRORS = (RuntimeError, ValueError, IndexError)
"""What TVM raises for a schedule that cannot be."""


def generate(module: tvm.IRModule, target: dict[str, Any]) -> tuple[ms.TuneContext, list[Trace]]:
    """A context with TVM's default rules, postprocessors and mutators for `target`, and one sample per design space.

    Raises:
        SpaceError: TVM generates no design space.
    """
    intrinsics.register()
    rules: Any = "post-order-apply"  # on a CPU TVM chooses the rules by the vector unit
    if target["kind"] == "cuda":
        rules = _cuda_rules(module, target)
    try:
        return _generate(module, target, rules)
    except TVM_ERRORS as error:
        said = str(error).strip().splitlines()[-1]
        raise SpaceError(f"TVM generates no design space of this workload for {target['kind']}: {said}") from error


def _cuda_rules(module: tvm.IRModule, target: dict[str, Any]) -> Any:
    """TVM's rules for CUDA cores, as far as they work for `module`."""
    # For CUDA from sm_80 on, TVM would add the rules of tensor cores, which match no float32 kernel and cost half a
    # minute of parsing their intrinsics.
    rules = list(ms.ScheduleRule.create("cuda"))
    try:
        _generate(module, target, _post_order(rules))
    except TVM_ERRORS:
        # TVM 0.27 fails on several reductions in one program (attention): CrossThreadReduction meets a tiled block.
        _log.warning("TVM's rule CrossThreadReduction fails on this workload and is left out")
        rules = [rule for rule in rules if not isinstance(rule, ms.schedule_rule.CrossThreadReduction)]
    return _post_order(rules)


def _post_order(rules: list[Any]) -> Any:
    return ms.space_generator.PostOrderApply(sch_rules=rules, postprocs="cuda", mutator_probs="cuda")


def _generate(module: tvm.IRModule, target: dict[str, Any], space: Any) -> tuple[ms.TuneContext, list[Trace]]:
    context = ms.TuneContext(
        mod=module,
        target=tvm.target.Target(target),
        space_generator=space,
        search_strategy="evolutionary",
        task_name="main",
        rand_state=1,
        num_threads=1,
        logger=_log,
    )
    return context, [s.trace for s in context.generate_design_space()]
