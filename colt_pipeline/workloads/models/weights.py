"""Weights in the form in which a model's kernels take them: transposed, folded and packed, once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax

TRANSFORM = "main_transform_params"
"""TVM's name of the function that it lifts out of ``main``: a tuple of weights -> a tuple of what is made of them."""

Weight = Any
"""An array, or a tensor of TVM."""


@dataclass(frozen=True)
class _Step:
    """What computes one weight."""

    needs: tuple[int, ...]
    """Positions of the given weights."""
    function: relax.Function | None
    """None = the only one that it needs, as it is."""


def transformed(transforms: Sequence[tvm.IRModule], weights: Sequence[Weight]) -> Iterator[tvm.runtime.Tensor]:
    """The weights after these transformations, each of which takes what the one before it gives.

    They are made one by one. What is given may be maps of files, of which each is read when it is needed, and a weight
    that an earlier transformation made is given up after its last use: at most one is in memory twice. What the last
    transformation makes is made when it is asked for. What is made in the same way of the same weights is one tensor,
    such as for layers that share them.
    """
    given: list[Weight | None] = list(weights)
    for transform in transforms[:-1]:
        given = list(_applied(transform, given))
    last = _applied(transforms[-1], given) if transforms else _given_up(given)
    yield from map(_tensor, last)


def _given_up(given: list[Weight | None]) -> Iterator[Weight]:
    for position, weight in enumerate(given):
        assert weight is not None
        given[position] = None
        yield weight


def _applied(transform: tvm.IRModule, given: list[Weight | None]) -> Iterator[Weight]:
    transform = relax.transform.ToNonDataflow()(transform)
    steps = list(_steps(transform[TRANSFORM]))
    functions: list[relax.Function] = []
    names = [None if step.function is None else _name(step.function, functions) for step in steps]
    machine = _machine(transform, functions) if functions else None
    # before any is given up, because a freed object's identity may be another's
    recipes = [(name, tuple(id(given[p]) for p in step.needs)) for name, step in zip(names, steps, strict=True)]
    uses = Counter(recipes)
    made: dict[Any, Weight] = {}
    last = {position: i for i, step in enumerate(steps) for position in step.needs}
    for i, (name, step, recipe) in enumerate(zip(names, steps, recipes, strict=True)):
        needed = [given[position] for position in step.needs]
        for position in step.needs:
            if last[position] == i:
                given[position] = None
        if recipe in made:
            weight = made[recipe]
        elif name is None:
            (weight,) = needed
        else:
            assert machine is not None
            weight = machine[name](*(_tensor(x) for x in needed if x is not None))
        assert weight is not None
        uses[recipe] -= 1
        if uses[recipe]:
            made[recipe] = weight
        else:
            made.pop(recipe, None)
        yield weight
        del weight, needed


def _name(function: relax.Function, known: list[relax.Function]) -> str:
    """What a function is called, the same if it is equal to a known one, to which it is added otherwise."""
    number = next((i for i, each in enumerate(known) if tvm_ffi.structural_equal(each, function)), len(known))
    if number == len(known):
        known.append(function)
    return f"weight{number}"


def _machine(transform: tvm.IRModule, functions: Sequence[relax.Function]) -> relax.VirtualMachine:
    """What runs these functions under the names that `_name` gave them."""
    kernels = {var: f for var, f in transform.functions.items() if isinstance(f, tvm.tirx.PrimFunc)}
    module = tvm.IRModule(kernels)
    for number, function in enumerate(functions):
        name = f"weight{number}"
        module[name] = function.with_attr("global_symbol", name)
    target = tvm.target.Target({"kind": "llvm"})
    return relax.VirtualMachine(tvm.compile(relax.transform.LegalizeOps()(module), target=target), tvm.cpu())


def _steps(function: relax.Function) -> Iterator[_Step]:
    """How each of the function's results is computed from the weights that it takes."""
    (weights,) = function.params
    made: dict[relax.Var, relax.Expr] = {}
    order: list[relax.Binding] = []
    for block in function.body.blocks:
        for binding in block.bindings:
            made[binding.var] = binding.value
            order.append(binding)
    result = function.body.body
    if result.same_as(weights):  # nothing is transformed
        yield from (_Step((i,), None) for i in range(len(weights.ty.fields)))
        return
    fields = list((made[result] if isinstance(result, relax.Var) else result).fields)
    for field in fields:
        yield _step(field, weights, made, order)


def _step(
    field: relax.Expr, weights: relax.Var, made: dict[relax.Var, relax.Expr], order: Sequence[relax.Binding]
) -> _Step:
    needed: set[relax.Var] = set()

    def visit(value: relax.Expr) -> None:
        for var in relax.analysis.free_vars(value):
            if var in made and var not in needed:
                needed.add(var)
                visit(made[var])

    visit(field)
    sources: dict[relax.Var, int] = {}
    bindings: list[relax.Binding] = []
    for binding in order:
        if binding.var not in needed:
            continue
        value = binding.value
        if isinstance(value, relax.TupleGetItem) and value.tuple_value.same_as(weights):
            sources[binding.var] = int(value.index)
        else:
            bindings.append(binding)
    if not bindings and isinstance(field, relax.Var):
        return _Step(tuple(sources.values()), None)
    body = relax.SeqExpr([relax.BindingBlock(bindings)], field)
    return _Step(tuple(sources.values()), relax.Function(list(sources), body, field.ty))


def _tensor(value: Weight) -> tvm.runtime.Tensor:
    if isinstance(value, tvm.runtime.Tensor):
        return value
    return tvm.runtime.tensor(np.asarray(value, order="C"), tvm.cpu())
