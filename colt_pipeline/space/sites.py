"""Sampling sites: the decisions in a program's trace, under names that a model can read.

Sites are found by replaying the trace and inspecting the loops and blocks at each sampling instruction, so a label such
as ``conv2d.dx`` (block and loop) matches the workload's source. TVM itself moves an impossible compute location to the
nearest possible one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Instruction, Trace

from colt_pipeline.records import Site

PARALLEL = "meta_schedule.parallel"
_UNROLL = "meta_schedule.unroll_"
_FETCH = "meta_schedule.cooperative_fetch"  # no mutator changes it
LIMITS = tuple(2**n for n in range(11))
"""For the extent of the parallel loop."""


FoundSites = dict[str, tuple[int, Site]]
"""Label -> (index of the instruction, site), in trace order."""


def find_sites(module: Any, trace: Trace) -> FoundSites:
    """The sites of a valid `trace` of `module`."""
    index = {inst: number for number, inst in enumerate(trace.insts)}
    annotated = {str(i.inputs[1]): str(i.attrs[0]) for i in trace.insts if i.kind.name == "Annotate"}
    notes = _notes(trace)
    found: FoundSites = {}
    schedule = Schedule(module, debug_mask="none")

    def look(inst: Instruction, inputs: Sequence[Any], attrs: Sequence[Any], decision: Any) -> Any:
        site = _site(schedule, inst, inputs, decision, annotated)
        if site is not None:
            label, twins = site.label, 1
            while label in found:
                twins += 1
                label = f"{site.label}#{twins}"
            found[label] = (index[inst], replace(site, label=label, note=notes.get(inst, "")))
        return decision

    trace.apply_to_schedule(schedule, remove_postproc=True, decision_provider=look)
    return found


def sites_like(found: Mapping[str, tuple[int, Site]], values: Mapping[int, tuple[int, ...]]) -> FoundSites:
    """What `find_sites` gives for another trace of the same design with these values by index of the instruction.

    Only where no block is moved to a loop that is itself decided: labels and choices of such a design may differ.
    """
    return {label: (index, _with_value(site, values[index])) for label, (index, site) in found.items()}


def moves_blocks(trace: Trace) -> bool:
    """Whether it is decided where a block is computed."""
    return any(inst.kind.name == "SampleComputeLocation" for inst in trace.insts)


def _with_value(site: Site, value: tuple[int, ...]) -> Site:
    if site.transformation == "TileSize":
        return replace(site, now=value, extent=math.prod(value))
    if site.transformation == "Parallel":
        return replace(site, now=value, choices=_jobs(*value))
    return replace(site, now=(site.choices[value[0]],))


def decide(trace: Trace, index: int, site: Site, decision: tuple[int, ...]) -> Trace:
    """`trace` with another decision, which must be within the site's bounds, at the instruction with this index."""
    insts = list(trace.insts)
    old = insts[index]
    if old.kind.name == "Annotate":
        insts[index] = Instruction(old.kind, [old.inputs[0], decision[0]], old.attrs, old.outputs)
        return Trace(insts, trace.decisions)
    value: Any = decision[0]
    if site.extent:
        value = list(decision)
    elif old.kind.name == "SampleCategorical":
        value = site.choices.index(decision[0])
    return trace.with_decision(old, value, remove_postproc=False)


def _site(
    schedule: Schedule, inst: Instruction, inputs: Sequence[Any], decision: Any, annotated: dict[str, str]
) -> Site | None:
    match inst.kind.name:
        case "SamplePerfectTile":
            loop = schedule.get(inputs[0])
            block = schedule.get(schedule.get_child_blocks(inputs[0])[0]).name_hint
            now = tuple(int(factor) for factor in decision)
            label = f"{block}.{loop.loop_var.name}"
            return Site("TileSize", label, now, extent=int(loop.extent), innermost=int(inst.attrs[1]))
        case "SampleComputeLocation":
            depth = max((len(schedule.get_loops(c)) for c in schedule.get_consumers(inputs[0])), default=0)
            label = schedule.get(inputs[0]).name_hint
            return Site("ComputeLocation", label, (int(decision),), choices=tuple(range(-2, depth)))
        case "SampleCategorical":
            key = annotated.get(str(inst.outputs[0]), "")
            if key == _FETCH:
                return None
            choices = tuple(int(value) for value in inst.attrs[0])
            name, label = ("Unroll", "unroll") if key.startswith(_UNROLL) else ("ThreadBinding", "threads")
            return Site(name, label, (choices[int(decision)],), choices=choices)
        case "Annotate" if inst.attrs[0] == PARALLEL:
            jobs = int(inst.inputs[1])
            return Site("Parallel", "parallel", (jobs,), choices=_jobs(jobs))
    return None


def _notes(trace: Trace) -> dict[Instruction, str]:
    """For each sampled tile, what its factors count; nothing for TVM's designs, whose tiles divide single iterations.

    It follows from the trace alone: from what a loop was split off, and what becomes of the parts.
    """
    splits: dict[Any, tuple[Instruction, int]] = {}  # loop -> what made it, and its position there
    uses: dict[Any, Instruction] = {}  # a tile's last factor -> the split by it
    fate: dict[Any, str] = {}
    for inst in trace.insts:
        match inst.kind.name:
            case "Split":
                splits |= {loop: (inst, position) for position, loop in enumerate(inst.outputs)}
                uses[inst.inputs[-1]] = inst
            case "Vectorize" | "Unroll":
                fate[inst.inputs[0]] = inst.kind.name
    if "Vectorize" not in fate.values():
        return {}
    tiles = [inst for inst in trace.insts if inst.kind.name == "SamplePerfectTile"]
    return {tile: _note(tile, splits, uses, fate) for tile in tiles}


def _note(
    tile: Instruction, splits: dict[Any, tuple[Instruction, int]], uses: dict[Any, Instruction], fate: dict[Any, str]
) -> str:
    loop = tile.inputs[0]
    split, position = splits.get(loop, (None, 0))
    if split is not None and position == 1:  # a core's share of the loop
        split, position = splits.get(split.inputs[0], (None, 0))
    what = "single iterations"
    if split is not None and position == 0 and len(split.outputs) == 2:
        size, part = int(split.inputs[-1]), fate.get(split.outputs[1])
        what = f"{'vectors' if part == 'Vectorize' else 'groups'} of {size}{', unrolled' if part == 'Unroll' else ''}"
    last = uses.get(tile.outputs[-1])
    unrolled = last is not None and fate.get(last.outputs[-1]) == "Unroll"
    return f"counts {what}{'; last factor unrolled' if unrolled else ''}"


def _jobs(now: int) -> tuple[int, ...]:
    """Limits for the extent of the parallel loop: the powers of two up to 1024, and the current limit."""
    return tuple(sorted({now, *LIMITS}))
