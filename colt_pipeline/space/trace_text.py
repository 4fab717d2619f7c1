"""Traces as the Python that makes them."""

from __future__ import annotations

from tvm.s_tir.schedule import Instruction, InstructionKind, Trace

_PADDING = "DecomposePadding"
_ALIKE = ("DecomposeReduction", "sch.decompose_reduction(", "sch.decompose_padding(")
"""An instruction with the same inputs and outputs, its call, and what the call must be."""


def steps(trace: Trace) -> list[str]:
    """One call for each instruction.

    TVM 0.27 cannot print DecomposePadding: the function that does takes a loop where it is given the loop's name.
    """
    instructions = list(trace.insts)
    padding = [number for number, inst in enumerate(instructions) if inst.kind.name == _PADDING]
    for number in padding:
        inst = instructions[number]
        alike = InstructionKind.get(_ALIKE[0])
        instructions[number] = Instruction(alike, inst.inputs, inst.attrs, inst.outputs)
    lines = [str(line) for line in Trace(instructions, dict(trace.decisions)).as_python()]
    for number in padding:
        lines[number] = lines[number].replace(*_ALIKE[1:])
    return lines


def text(trace: Trace) -> str:
    """The calls as one text."""
    if all(inst.kind.name != _PADDING for inst in trace.insts):
        return str(trace)
    return "\n".join(steps(trace))
