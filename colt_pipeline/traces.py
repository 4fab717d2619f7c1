"""Which schedule traces may be applied.

A trace from a file is a program that somebody else wrote: TVM applies every instruction that it knows, the compiler
obeys some annotations (``pragma_import_llvm`` holds LLVM IR), and malformed instructions can crash the process. So only
what schedule rules, TVM's and this project's, and mutators make for this package's targets may pass. A rule that makes
more needs a row here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from reprlib import Repr
from typing import Any

from colt_pipeline.serialization import strict_json

Check = Callable[[Any], bool]

_VARIABLE = re.compile(r"[blv][0-9]{1,6}")
"""TVM's names of a trace's variables: blocks, loops and values."""
_MAX_INSTRUCTIONS = 1000
_MAX_LOOPS = 400
"""Loops made by splits, which could all be nested, and TVM recurses over nested loops. Recorded traces have up to 95
instructions and 40 such loops."""
_MAX_VARIABLES = 128
"""Inputs or outputs of an instruction. Recorded ones have up to 29."""
_MAX_NUMBER = 2**31 - 1
_MAX_ALIGNMENT = 64
"""Elements that the stride of a buffer is aligned to, or moved by. The rules use up to 8."""
_MAX_INDEX_MAP = 8000
"""Characters. Those of the rules have up to 1200."""
_NODES = frozenset(
    (
        "None",
        "int",
        "ffi.Array",
        "ffi.String",
        "ir.IntImm",
        "ir.PrimType",
        "ir.Var",
        "prim.FloorDiv",
        "prim.FloorMod",
        "tirx.IndexMap",
    )
)
"""What TVM's JSON of an index map consists of."""
_INDEX_TYPES = ("int32", "int64")
"""Kernels that TVM extracts from models have indices of 64 bits."""


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_NUMBER


def _is_alignment(value: Any) -> bool:
    return _is_number(value) and value <= _MAX_ALIGNMENT


def _is_flag(value: Any) -> bool:
    return type(value) in (bool, int) and value in (0, 1)


def _is_last(value: Any) -> bool:
    return type(value) is int and value == -1


def _is_sampled(value: Any) -> bool:
    return _sort(value) == "v"


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 16 and all(map(_is_number, value))


def _is_probabilities(value: Any) -> bool:
    return isinstance(value, list) and all(type(p) in (int, float) and math.isfinite(p) and 0 < p <= 1 for p in value)


def _matches(pattern: str) -> Check:
    compiled = re.compile(pattern, re.ASCII)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


@dataclass(frozen=True)
class _Kind:
    """What an instruction of one kind looks like."""

    inputs: str
    """Pattern over the `_sort` of each input."""
    outputs: str = ""
    attrs: tuple[Check, ...] = ()


is_block_name = _matches(r"[\w.]{1,200}")
"""Whether a trace may name a block so."""
_SCOPE = _matches("global|shared|local")

_KINDS = {
    "GetSBlock": _Kind("", "b", (is_block_name, is_block_name)),
    "GetLoops": _Kind("b", "l*"),
    "GetChildBlocks": _Kind("[bl]", "b*"),
    "GetProducers": _Kind("b", "b*"),
    "GetConsumers": _Kind("b", "b*"),
    "SampleCategorical": _Kind("", "v", (_is_numbers, _is_probabilities)),
    "SamplePerfectTile": _Kind("l", "v+", (_is_number, _is_number)),
    "SampleComputeLocation": _Kind("b", "l"),
    "Split": _Kind("l[vn0]+", "l+", (_is_flag, _is_flag)),
    "Fuse": _Kind("l+", "l", (_is_flag,)),
    "Reorder": _Kind("l+"),
    "Bind": _Kind("l", "", (_matches("(blockIdx|threadIdx|vthread)[.][xyz]"),)),
    "CacheRead": _Kind("bB", "b", (_is_number, _SCOPE)),
    "CacheWrite": _Kind("bB", "b", (_is_number, _SCOPE)),
    "ComputeAt": _Kind("bl", "", (_is_flag, _is_last)),
    "ReverseComputeAt": _Kind("bl", "", (_is_flag, _is_last)),
    "ComputeInline": _Kind("b"),
    "ReverseComputeInline": _Kind("b"),
    "RFactor": _Kind("l", "b", (_is_number,)),
    "Vectorize": _Kind("l"),
    "Unroll": _Kind("l"),
    "SetScope": _Kind("b", "", (_is_number, _SCOPE)),
    "StorageAlign": _Kind("b", "", (_is_number, _is_number, _is_alignment, _is_alignment)),
    "DecomposePadding": _Kind("bl", "b"),
    # The second input is the index map, see `_is_index_map`.
    "TransformLayout": _Kind("b-", "", (_is_number, _is_number, lambda padding: padding is None, _is_flag)),
    "TransformBlockLayout": _Kind("b", "", (lambda text: _is_index_map(text),)),
    # The key of an annotation is its attribute, for which `_ANNOTATIONS` has the values.
    "Annotate": _Kind("[bl].", "", (lambda key: True,)),
    "Unannotate": _Kind("[bl]", "", (lambda key: True,)),
}

_ANNOTATIONS: dict[str, Check] = {
    "schedule_rule": lambda value: False,  # TOPI's; rules only remove it
    "meta_schedule.cooperative_fetch": _is_sampled,
    "meta_schedule.parallel": _is_number,
    "meta_schedule.random_compute_producer": _is_flag,
    "meta_schedule.thread_extent_high_inclusive": _is_number,
    "meta_schedule.thread_extent_low_inclusive": _is_number,
    "meta_schedule.tiling_structure": _matches('"[SR]{1,16}"'),
    "meta_schedule.unroll_explicit": _is_sampled,
    "meta_schedule.unroll_implicit": _is_sampled,
    "meta_schedule.vectorize": _is_number,
    "pragma_auto_unroll_max_step": lambda value: type(value) is int and value == 0,
    "software_pipeline_async_stages": _is_numbers,
    "software_pipeline_order": _is_numbers,
    "software_pipeline_stage": _is_numbers,
}


def check_trace_json(text: str) -> Any:
    """Like `check_trace`, for the text of a trace; returns the parsed trace."""
    try:
        trace = strict_json(text)
    except ValueError as error:
        raise ValueError(f"its trace is not valid JSON ({error})") from error
    check_trace(trace)
    return trace


def check_trace(trace: Any) -> None:
    """Check that a trace is one that rules and mutators could make, and that every choice in it is made.

    Args:
        trace: TVM's JSON of a trace, parsed: instructions, each of kind, inputs, attributes and outputs; decisions.

    Raises:
        ValueError: it is not; the message names the instruction or annotation.
    """
    if not _is_list(trace, 2) or not all(isinstance(part, list) for part in trace):
        raise ValueError(f"its trace is not a list of instructions and decisions: {_shown(trace)}")
    instructions, decisions = trace
    if len(instructions) > _MAX_INSTRUCTIONS:
        raise ValueError(f"its trace has {len(instructions)} instructions, more than {_MAX_INSTRUCTIONS}")
    defined: set[str] = set()
    for number, instruction in enumerate(instructions):
        if not _is_list(instruction, 4) or not all(isinstance(part, list) for part in instruction[1:]):
            raise ValueError(f"its trace has no instruction at {number}, but {_shown(instruction)}")
        try:
            _check_instruction(instruction, defined)
        except ValueError as error:
            raise ValueError(f"instruction {number} of its trace {error}") from None
    if sum(len(outputs) for kind, _, _, outputs in instructions if kind == "Split") > _MAX_LOOPS:
        raise ValueError(f"its trace splits loops into more than {_MAX_LOOPS}")
    _check_decisions(instructions, decisions)


def _check_instruction(instruction: list[Any], defined: set[str]) -> None:
    """Check an instruction after others, which have defined some variables, and add those that it defines."""
    kind, inputs, attrs, outputs = instruction
    row = _KINDS.get(kind) if isinstance(kind, str) else None
    if row is None:
        raise ValueError(f"is {_shown(kind)}, which no rule makes here")
    if kind in ("Annotate", "Unannotate"):
        _check_annotation(kind, inputs, attrs)
    if kind == "TransformLayout" and not (len(inputs) == 2 and _is_index_map(inputs[1])):
        raise ValueError(f"({kind}) has a wrong index map: {_shown(inputs[1:])}")
    for name, pattern, values in (("inputs", row.inputs, inputs), ("outputs", row.outputs, outputs)):
        if len(values) > _MAX_VARIABLES or not re.fullmatch(pattern, "".join(map(_sort, values))):
            raise ValueError(f"({kind}) has wrong {name}: {_shown(values)}")
    if len(attrs) != len(row.attrs) or not all(check(a) for check, a in zip(row.attrs, attrs, strict=True)):
        raise ValueError(f"({kind}) has wrong attributes: {_shown(attrs)}")
    if kind == "SamplePerfectTile" and len(outputs) != attrs[0]:
        raise ValueError(f"({kind}) has {len(outputs)} outputs and not {_shown(attrs[0])}")
    if kind == "SampleCategorical" and len(attrs[0]) != len(attrs[1]):
        raise ValueError(f"({kind}) has {len(attrs[0])} candidates with {len(attrs[1])} probabilities")
    if unknown := [name for name in _variables(inputs) if name not in defined]:
        raise ValueError(f"({kind}) uses {unknown[0]}, which no earlier instruction defines")
    for name in outputs:
        if name in defined:
            raise ValueError(f"({kind}) defines {name} again")
        defined.add(name)


def _check_annotation(kind: str, inputs: list[Any], attrs: list[Any]) -> None:
    key = attrs[0] if len(attrs) == 1 else attrs
    check = _ANNOTATIONS.get(key) if isinstance(key, str) else None
    if check is None:
        raise ValueError(f"({kind}) has the key {_shown(key)}, which no rule uses here")
    if kind == "Annotate" and not (len(inputs) == 2 and check(inputs[1])):
        raise ValueError(f"({kind}) has a wrong value for {key}: {_shown(inputs[1:])}")


def _is_index_map(text: Any) -> bool:
    """Whether this is TVM's JSON of an index map as rules write it: buffer dimensions, divided by constants.

    TVM follows references between nodes without a limit, so a node may refer only to those before it.
    """
    if not isinstance(text, str) or len(text) > _MAX_INDEX_MAP:
        return False
    try:
        graph = strict_json(text)
    except ValueError:
        return False
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list):
        return False
    nodes = graph["nodes"]
    return graph.get("root_index") == len(nodes) - 1 and all(_is_node(n, node) for n, node in enumerate(nodes))


def _is_node(number: int, node: Any) -> bool:
    kind = node.get("type") if isinstance(node, dict) else None
    if not isinstance(kind, str) or kind not in _NODES:
        return False
    data = node.get("data")
    if kind == "ffi.String":
        return isinstance(data, str) and len(data) <= 200
    if kind == "int":
        return _is_number(data)
    if kind == "None":
        return data is None
    if kind == "ffi.Array":
        referred = data if isinstance(data, list) else [None]
    else:
        referred = list(data.values()) if isinstance(data, dict) else [None]
    return all(r in _INDEX_TYPES or (type(r) is int and 0 <= r < number) for r in referred)


def _check_decisions(instructions: list[list[Any]], decisions: list[Any]) -> None:
    open_ = {n for n, instruction in enumerate(instructions) if instruction[0].startswith("Sample")}
    for entry in decisions:
        if not _is_list(entry, 2) or type(entry[0]) is not int or entry[0] not in open_:
            raise ValueError(f"its trace has a decision for no instruction: {_shown(entry)}")
        number, decision = entry
        kind, _, attrs, _ = instructions[number]
        if not _decides(kind, attrs, decision):
            raise ValueError(f"instruction {number} of its trace ({kind}) has a wrong decision: {_shown(decision)}")
        open_.remove(number)
    if open_:
        number = min(open_)
        raise ValueError(f"instruction {number} of its trace ({instructions[number][0]}) has no decision")


def _decides(kind: str, attrs: Sequence[Any], decision: Any) -> bool:
    match kind:
        case "SamplePerfectTile":
            return _is_list(decision, attrs[0]) and all(_is_number(factor) and factor > 0 for factor in decision)
        case "SampleCategorical":
            return _is_number(decision) and decision < len(attrs[0])
        case _:  # SampleComputeLocation; -1: inlined, -2: left where it is
            return type(decision) is int and -2 <= decision <= _MAX_LOOPS


def _sort(value: Any) -> str:
    """One character: b, l, v for a variable, B for blocks, n for a number, 0 for None, - for anything else."""
    if isinstance(value, str):
        return value[0] if _VARIABLE.fullmatch(value) else "0" if value == "None" else "-"
    if isinstance(value, list):
        return (
            "B" if len(value) <= _MAX_VARIABLES and all(isinstance(v, str) and _sort(v) == "b" for v in value) else "-"
        )
    return "n" if _is_number(value) else "-"


def _variables(inputs: list[Any]) -> list[str]:
    flat = [v for value in inputs for v in (value if isinstance(value, list) else [value])]
    return [v for v in flat if isinstance(v, str) and _VARIABLE.fullmatch(v)]


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length


_brief = Repr()
_brief.maxstring = _brief.maxother = 60
_brief.maxlevel = 3


def _shown(value: Any) -> str:
    """A short text without control characters."""
    return _brief.repr(value)
