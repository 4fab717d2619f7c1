"""A schedule as Python: the scheduled program itself, and the steps that lead to it from the base program."""

from __future__ import annotations

import json
import re

import tvm
from tvm.s_tir.schedule import Instruction

from colt_pipeline.exports.rendering import render
from colt_pipeline.exports.winner import Winner
from colt_pipeline.space.trace_text import steps

SCHEDULED = "scheduled.py"
SCHEDULE = "schedule.py"
VECTOR_MATH = "vector_math.py"
"""A copy of `measurement.vector_math`, if the kernel was compiled with it."""
_INVERSE = ", inverse_index_map="
_PACKS = 'ann_key="meta_schedule.layout_rewrite_preproc", ann_val='
_META_OMITTED = "# Metadata omitted."
_IMPORT = re.compile(r"^# (from tvm\S* import .*)\n", re.MULTILINE)


def scheduled_text(winner: Winner, function: str) -> str:
    """The scheduled program as TVMScript, in a file that Python can import."""
    imports, program = script(winner.program.schedule.mod)
    target = json.dumps(winner.target)  # unlike repr, it leaves no quotes that could end the docstring
    return render(
        "scheduled.py.j2",
        function=function,
        target=target,
        vector_math=winner.vector_math,
        imports=imports,
        program=program,
    )


def schedule_text(winner: Winner, function: str) -> str:
    """The base program as TVMScript and a function that schedules it, in a file that Python can import."""
    imports, program = script(winner.workload.module)
    trace = winner.program.schedule.trace
    called = [_exact(step, inst) for step, inst in zip(steps(trace), trace.insts, strict=True)]
    lines = [line for step in called for line in step.splitlines()]
    return render("schedule.py.j2", function=function, imports=imports, program=program, steps=lines)


def _exact(step: str, instruction: Instruction) -> str:
    """A call that TVM prints, with the types that it omits: of a layout's indices, and of the mark of a packing."""
    if instruction.kind.name == "TransformLayout" and _INVERSE in step:
        dtype = instruction.inputs[1].initial_indices[0].ty.dtype
        return step.replace(_INVERSE, f', index_dtype="{dtype}"{_INVERSE}')
    return step.replace(f"{_PACKS}1)", f"{_PACKS}True)")


def script(module: tvm.IRModule) -> tuple[list[str], str]:
    """The imports that the text of a module needs, and the text."""
    text = str(module.script(show_meta=False))
    if _META_OMITTED in text:
        text = str(module.script(show_meta=True))
    return ["import tvm", *_IMPORT.findall(text)], _IMPORT.sub("", text).strip()
