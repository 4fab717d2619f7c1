"""The kernels into which TVM fuses a whole model, how often each is called, and the model with some replaced.

The passes are those of TVM's own tuning of Relax programs: LegalizeOps, AnnotateTIROpPattern, FoldConstant, FuseOps,
FuseTIR; then ``meta_schedule.relax_integration.extract_tasks``. A task's name is that of its fused function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import tvm
from tvm import relax
from tvm.s_tir.analysis import estimate_tir_flops
from tvm.s_tir.meta_schedule.relax_integration import extract_tasks

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.llama import Llama
from colt_pipeline.workloads.reference import computed
from colt_pipeline.workloads.workload import Array, Workload

_RTOL = 1e-4
_PASSES = (
    relax.transform.LegalizeOps,
    relax.transform.AnnotateTIROpPattern,
    relax.transform.FoldConstant,
    relax.transform.FuseOps,
    relax.transform.FuseTIR,
)


@dataclass(frozen=True)
class Task:
    """One kernel of a model."""

    name: str
    main: tvm.tirx.PrimFunc
    weight: int
    """How often the model calls it."""

    @cached_property
    def flop(self) -> int:
        """FLOP of one call, as counted by TVM."""
        return int(estimate_tir_flops(tvm.IRModule({"main": self.main})))

    @property
    def shape(self) -> str:
        """Shapes of the inputs and of the output."""
        shapes = ["x".join(str(int(n)) for n in p.ty.shape) for p in self.main.params]
        return f"{', '.join(shapes[:-1])} -> {shapes[-1]}"


class ExtractedModel:
    """A model as a Relax module that calls fused functions."""

    def __init__(self, model: Llama) -> None:
        target = tvm.target.Target({"kind": "llvm"})
        with target:
            self._fused = tvm.transform.Sequential([make() for make in _PASSES])(model.module())
        tasks = [Task(t.task_name, self._fused[t.task_name], int(t.weight)) for t in extract_tasks(self._fused, target)]
        # TVM returns them in hash map order.
        self.tasks = tuple(sorted(tasks, key=lambda t: (-t.weight * t.flop, t.name)))
        """Sorted by their share of the model's work, largest first."""

    def workload(self, name: str, task: str, shape: dict[str, int]) -> Workload:
        """The task as a workload called `name`.

        Its reference is the unscheduled function, see `computed`.

        Raises:
            ConfigError: the model has no such task.
        """
        found = next((t for t in self.tasks if t.name == task), None)
        if found is None:
            names = ", ".join(t.name for t in self.tasks)
            raise ConfigError(f"workload.name={name}: the model has no task {task}; choose one of {names}")

        def reference(*inputs: Array) -> list[Array]:
            return computed(found.main, inputs)

        return Workload(name, shape, found.main, reference, found.flop, (_RTOL,))

    def replaced(self, modules: Mapping[str, tvm.IRModule]) -> tvm.IRModule:
        """The model with the functions of these tasks replaced; the others stay unscheduled."""
        changed = self._fused.clone()
        for name, module in modules.items():
            scheduled = module["main"].with_attr("global_symbol", name).with_attr("tirx.is_scheduled", True)
            changed.update_func(changed.get_global_var(name), scheduled)
        return changed


@lru_cache(maxsize=4)
def extracted(model: Llama) -> ExtractedModel:
    """`model` split into tasks; cached, because it takes some seconds."""
    return ExtractedModel(model)
