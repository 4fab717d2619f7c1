"""The kernels into which TVM fuses a whole model, how often each is called, and the model with some replaced.

The passes are those of TVM's own tuning of Relax programs: LegalizeOps, AnnotateTIROpPattern, FoldConstant, FuseOps,
FuseTIR. A user's model is rewritten before that (`models.rewrites`); what depends on weights alone is computed once. A
kernel's name is that of its fused function, or of the first one where several functions are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import tvm
import tvm_ffi
from tvm import relax
from tvm.s_tir.analysis import estimate_tir_flops

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.data import tolerance
from colt_pipeline.workloads.models.model import NUM_INPUT, Model
from colt_pipeline.workloads.models.rewrites import (
    LEGALIZE,
    channels_last,
    simplified,
    with_folded_norms,
    with_weights_as_parameters,
)
from colt_pipeline.workloads.models.weights import TRANSFORM
from colt_pipeline.workloads.packing import with_constants
from colt_pipeline.workloads.reference import computed
from colt_pipeline.workloads.workload import CONSTANTS, Array, Parameter, Workload, written

_MAIN = "main"
_FLOP_PER_BYTE = 8
"""Floating-point operations that a CPU does while it moves a byte from memory: the cores of the recordings have 6 to 12
(results/benchmark/torch.csv, peak_gflops / memory_gb_per_sec)."""
_PACKED_DIMENSIONS, _PACKED_BYTES = 2, 4096
"""Weights of fewer dimensions or bytes are not worth packing: biases and scales."""


@dataclass(frozen=True)
class Task:
    """One kernel of a model."""

    name: str
    main: tvm.tirx.PrimFunc
    weight: int
    """How often the model calls it."""
    names: tuple[str, ...] = ()
    """All functions of the model that are this kernel."""
    constants: tuple[int, ...] = ()
    """Positions of the inputs that are weights worth packing."""
    is_view: bool = False
    """Whether it only gives a tensor another shape, which TVM does without a copy."""

    @cached_property
    def flop(self) -> int:
        """FLOP of one call, as counted by TVM."""
        return int(estimate_tir_flops(tvm.IRModule({"main": self.main})))

    @cached_property
    def parameters(self) -> list[Parameter]:
        return [Parameter.of(p) for p in self.main.params]

    @cached_property
    def has_infinity(self) -> bool:
        """Whether it computes with infinity, as masks do."""
        found: list[float] = []
        tvm_ffi.structural_walk(self.main.body, [(tvm.tirx.FloatImm, lambda number: found.append(float(number.value)))])
        return not all(map(math.isfinite, found))

    @property
    def work(self) -> int:
        """What all calls cost a machine at its limits, in FLOP: of arithmetic, or of moving all bytes once."""
        moved = 0 if self.is_view else sum(p.bytes for p in self.parameters)
        return self.weight * max(self.flop, _FLOP_PER_BYTE * moved)

    @property
    def shape(self) -> str:
        """Shapes of the inputs and of the outputs."""
        outputs = written(self.main)
        shapes = ["x".join(map(str, p.shape)) or "scalar" for p in self.parameters]
        inputs = ", ".join(s for i, s in enumerate(shapes) if i not in outputs)
        return f"{inputs} -> {', '.join(shapes[i] for i in outputs)}"


@dataclass(frozen=True)
class Ready:
    """A model to compile, and what makes its weights."""

    module: tvm.IRModule
    """``main``(inputs, transformed weights)."""
    transforms: tuple[tvm.IRModule, ...]
    """See `models.weights.transformed`."""


class ExtractedModel:
    """A model as a Relax module that calls fused functions."""

    def __init__(self, model: Model, prepack: bool = False) -> None:
        """Split a model.

        Args:
            model: the model.
            prepack: whether kernels may have their weights packed ahead.
        """
        self.model = model
        self.values: list[Array] = []
        """Weights that were constants of the module; they follow the model's others."""
        target = tvm.target.Target({"kind": "llvm"})
        with target:
            main, self._folding = self._folded(model)
            self._fused = tvm.transform.Sequential(
                [
                    relax.transform.LegalizeOps(None if model.as_is else LEGALIZE),
                    relax.transform.AnnotateTIROpPattern(),
                    relax.transform.FoldConstant(),
                    relax.transform.FuseOps(),
                    relax.transform.FuseTIR(),
                ]
            )(main)
            if prepack:
                self._fused = _with_free_layouts(self._fused)
        # Those of one share of the work in the order of their names, because TVM returns functions in hash map order.
        self.tasks = tuple(sorted(self._tasks(), key=lambda t: (-t.weight * t.flop, t.name)))
        """Sorted by their share of the model's arithmetic, largest first."""

    def _folded(self, model: Model) -> tuple[tvm.IRModule, tuple[tvm.IRModule, ...]]:
        """The model after rewrites, and what computes its weights from those that were given."""
        if model.as_is:
            return model.module, ()
        module, self.values = with_weights_as_parameters(model.module)
        passes = [relax.transform.DecomposeOpsForInference(), relax.transform.CanonicalizeBindings()]
        plain = tvm.transform.Sequential(passes)(with_folded_norms(module))
        return _lifted(simplified(channels_last(plain)))

    def _tasks(self) -> Iterator[Task]:
        calls: dict[str, int] = {}
        for call in _calls(self._fused[_MAIN]):
            name = call.args[0].name_hint
            calls[name] = calls.get(name, 0) + 1
        groups: list[list[str]] = []
        for name in calls:
            main = _unnamed(self._fused[name])
            equal = (g for g in groups if tvm_ffi.structural_equal(main, _unnamed(self._fused[g[0]])))
            found = next(equal, None)
            if found is None:
                groups.append([name])
            else:
                found.append(name)
        for names in groups:
            main = self._fused[names[0]]
            constants = tuple(int(i) for i in main.attrs.get(CONSTANTS, ()))
            is_view = not self.model.as_is and bool(relax.analysis.has_reshape_pattern(main))
            yield Task(names[0], main, sum(calls[name] for name in names), tuple(names), constants, is_view)

    def task(self, name: str, task: str) -> Task:
        """The task of this name.

        Raises:
            ConfigError: the model has no such task; the message calls the workload `name`.
        """
        found = next((t for t in self.tasks if t.name == task), None)
        if found is None:
            names = ", ".join(t.name for t in self.tasks)
            raise ConfigError(f"workload.name={name}: the model has no task {task}; choose one of {names}")
        return found

    def workload(self, name: str, task: str, shape: dict[str, int]) -> Workload:
        """The task as a workload called `name`.

        Its reference is the unscheduled function, see `computed`.

        Raises:
            ConfigError: the model has no such task.
        """
        found = self.task(name, task)
        main = found.main.without_attr(CONSTANTS) if found.constants else found.main

        def reference(*inputs: Array) -> list[Array]:
            return computed(main, inputs)

        rtols = tuple(tolerance(found.parameters[i].dtype) for i in written(main))
        made = Workload(name, shape, main, reference, found.flop, rtols, not self.model.as_is)
        return with_constants(made, found.constants) if found.constants else made

    def ready(self, modules: Mapping[str, tvm.IRModule]) -> Ready:
        """The model with the functions of these tasks replaced, to compile; the others stay unscheduled."""
        changed = self._fused.clone()
        for task in self.tasks:
            for name in task.names if task.name in modules else ():
                scheduled = modules[task.name]["main"].with_attr("global_symbol", name)
                changed.update_func(changed.get_global_var(name), scheduled.with_attr("tirx.is_scheduled", True))
        if all(not task.constants for task in self.tasks):
            return Ready(changed, self._folding)
        packed, packing = _lifted(relax.transform.SplitLayoutRewritePreproc()(changed))
        return Ready(packed, (*self._folding, *packing))


def _lifted(module: tvm.IRModule) -> tuple[tvm.IRModule, tuple[tvm.IRModule, ...]]:
    """The module without what depends on its weights alone, and a module that computes that."""
    main = module[_MAIN]
    if int(main.attrs[NUM_INPUT]) == len(main.params):
        return module, ()
    apart = relax.transform.LiftTransformParams()(module)
    without = tvm.IRModule({var: f for var, f in apart.functions.items() if var.name_hint != TRANSFORM})
    alone = tvm.IRModule({var: f for var, f in apart.functions.items() if var.name_hint != _MAIN})
    clean = relax.transform.DeadCodeElimination()
    return clean(without), (clean(alone),)


def _with_free_layouts(fused: tvm.IRModule) -> tvm.IRModule:
    """The functions say which of their inputs are weights, at every call, that are worth packing."""
    main = fused[_MAIN]
    weights = set(main.params[int(main.attrs[NUM_INPUT]) :])
    free: dict[str, set[int]] = {}
    for call in _calls(main):
        places = {i for i, argument in enumerate(call.args[1].fields) if argument in weights}
        free.setdefault(call.args[0].name_hint, places).intersection_update(places)
    marked = fused.clone()
    for name, places in free.items():
        parameters = [Parameter.of(p) for p in fused[name].params]
        if worth := sorted(i for i in places if _is_worth_packing(parameters[i])):
            marked.update_func(fused.get_global_var(name), fused[name].with_attr(CONSTANTS, worth))
    return marked


def _is_worth_packing(weight: Parameter) -> bool:
    return sum(n > 1 for n in weight.shape) >= _PACKED_DIMENSIONS and weight.bytes >= _PACKED_BYTES


def _unnamed(function: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    return function.without_attr("global_symbol") if "global_symbol" in (function.attrs or {}) else function


def _calls(main: relax.Function) -> Iterator[relax.Call]:
    """The calls of the module's own functions, in order."""
    for block in main.body.blocks:
        for binding in block.bindings:
            value = binding.value
            is_call = isinstance(value, relax.Call) and len(value.args) > 0
            if is_call and isinstance(value.args[0], tvm.ir.GlobalVar):
                yield value


def share(task: Task, tasks: tuple[Task, ...]) -> float:
    """The part of the model's work that a kernel has, see `Task.work`."""
    return task.work / max(1, math.fsum(t.work for t in tasks))
