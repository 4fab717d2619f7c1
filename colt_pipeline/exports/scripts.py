"""A schedule as Python: the scheduled program itself, and the steps that lead to it from the base program."""

from __future__ import annotations

import json
import re

import tvm

from colt_pipeline.exports.rendering import render
from colt_pipeline.exports.winner import Winner
from colt_pipeline.space.trace_text import steps

SCHEDULED = "scheduled.py"
SCHEDULE = "schedule.py"
VECTOR_MATH = "vector_math.py"
"""A copy of `measurement.vector_math`, if the kernel was compiled with it."""
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
    lines = [line for step in steps(winner.program.schedule.trace) for line in step.splitlines()]
    return render("schedule.py.j2", function=function, imports=imports, program=program, steps=lines)


def script(module: tvm.IRModule) -> tuple[list[str], str]:
    """The imports that the text of a module needs, and the text."""
    text = str(module.script(show_meta=False))
    if _META_OMITTED in text:
        text = str(module.script(show_meta=True))
    return ["import tvm", *_IMPORT.findall(text)], _IMPORT.sub("", text).strip()
