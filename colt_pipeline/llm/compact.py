"""Compact views of programs: loops with extents, annotations and block names, and the decisions of a schedule.

Whatever follows from the rest or from the workload is omitted: signatures, buffers, block bodies, index arithmetic, and
trace instructions without a decision.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from colt_pipeline.records import ProgramView, PromptContext, Site, StepView

_KEPT = ("for ", "with T.sblock(", "T.sblock_attr(")
_PARALLEL = "meta_schedule.parallel"
_UNROLL = "meta_schedule.unroll_"
_FETCH = "meta_schedule.cooperative_fetch"  # not a site, so no model is asked about it

_BLOCK = re.compile(r'(\w+) = sch\.get_sblock\(name="([^"]+)"')
_LOOPS = re.compile(r"(.+) = sch\.get_loops\(block=(\w+)\)")
_DECIDED = re.compile(r".+ = sch\.sample_(?:perfect_tile|compute_location)\(\w+=(\w+), .*decision=(.+)\)")
_DRAWN = re.compile(r"(\w+) = sch\.sample_categorical\(candidates=\[(.*?)\], .*decision=(\d+)\)")
_NOTE = re.compile(r'sch\.annotate\(block_or_loop=\w+, ann_key="([^"]+)", ann_val=(\w+)\)')

Decision = tuple[str, str]
"""What is decided, such as ``matmul.1`` (block and loop number, 0 = outermost), and the decision."""


def outline(code: str) -> str:
    """TVMScript -> its loops, annotations and blocks, one per line, indented by one space per level."""
    lines: list[str] = []
    enclosing: list[int] = []
    for line in code.splitlines():
        statement = line.lstrip()
        if statement.startswith(_KEPT):
            indent = len(line) - len(statement)
            while enclosing and enclosing[-1] >= indent:
                enclosing.pop()
            lines.append(" " * len(enclosing) + statement.removeprefix("with ").rstrip(": "))
            enclosing.append(indent)
    return "\n".join(lines)


def decisions(history: Sequence[str]) -> list[Decision]:
    """The decisions among the ``sch.`` lines of a trace, in order."""
    names: dict[str, str] = {}
    found: list[Decision] = []
    keys = {value: key for key, value in _NOTE.findall("\n".join(history))}
    for line in history:
        if match := _BLOCK.match(line):
            names[match[1]] = match[2]
        elif match := _LOOPS.match(line):
            block = names.get(match[2], match[2])
            names |= {loop: f"{block}.{n}" for n, loop in enumerate(match[1].rstrip(",").split(", "))}
        elif match := _DECIDED.match(line):
            found.append((names.get(match[1], match[1]), match[2]))
        elif (match := _DRAWN.match(line)) and (key := keys.get(match[1], "")) != _FETCH:
            label = "unroll" if key.startswith(_UNROLL) else "threads"
            found.append((label, match[2].split(", ")[int(match[3])]))
        elif (match := _NOTE.match(line)) and match[1] == _PARALLEL:
            found.append(("parallel", match[2]))
    return found


def labelled(history: Sequence[str], sites: Sequence[Site]) -> list[Decision]:
    """The decisions of the current program, under the labels of its sites if it has any."""
    found = decisions(history)
    labels = _site_labels(found, sites) or [label for label, _ in found]
    return [(label, value) for label, (_, value) in zip(labels, found, strict=True)]


def changes(before: StepView, after: StepView, sites: Sequence[Site], current: Sequence[str]) -> str:
    """What a step changed: each decision before and after it.

    Args:
        before: the program that was changed.
        after: the program that it became.
        sites: those of the current program, for labels.
        current: the current program's trace.
    """
    old, new = decisions(before.history), decisions(after.history)
    if [label for label, _ in old] != [label for label, _ in new]:
        return "another structure"
    names = labelled(current, sites)
    if [label for label, _ in decisions(current)] == [label for label, _ in new]:
        new = [(name, value) for (name, _), (_, value) in zip(names, new, strict=True)]
    changed = [f"{label} {a} -> {b}" for (_, a), (label, b) in zip(old, new, strict=True) if a != b]
    return ", ".join(changed) or "nothing that shows"


def shorten(context: PromptContext) -> PromptContext:
    """`context` with code replaced by outlines and histories by decisions.

    If sites are listed, they already show the current program's decisions, so ancestors keep only those that differ.
    """
    current = decisions(context.lineage[0].history)
    plain = [label for label, _ in current]
    labels = _site_labels(current, context.sites) or plain
    own = set(zip(labels, (value for _, value in current), strict=True)) if context.sites else set()

    def view(program: ProgramView) -> ProgramView:
        decided = decisions(program.history)
        if [label for label, _ in decided] == plain:
            decided = [(label, value) for label, (_, value) in zip(labels, decided, strict=True)]
        kept = tuple(f"{label} = {value}" for label, value in decided if (label, value) not in own)
        return replace(program, code=outline(program.code), history=kept)

    return replace(context, lineage=tuple(map(view, context.lineage)))


def _site_labels(current: Sequence[Decision], sites: Sequence[Site]) -> list[str] | None:
    """The site labels of the current program's decisions; None unless sites and decisions agree in order."""
    agree = [value for _, value in current] == [site.shown(site.now) for site in sites]
    return [site.label for site in sites] if agree else None
