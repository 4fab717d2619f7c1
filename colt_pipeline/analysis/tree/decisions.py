"""The decisions of a schedule, read from its trace without TVM: tiles, unrolling, parallel grain, compute locations.

A trace is TVM's JSON: ``[instructions, decisions]``. An instruction is ``[kind, inputs, attributes, outputs]``, a
decision ``[position of its instruction, value]``. It contains no loop names, so loops are numbered: "matmul, loop 3 of
4".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_DERIVED = {
    "CacheRead": "read cache of {}",
    "CacheWrite": "write cache of {}",
    "GetConsumers": "consumer of {}",
    "GetProducers": "producer of {}",
    "RFactor": "partial result of {}",
}
"""Kind of an instruction -> description of the block that it creates."""

_PLACES = {-2: "inlined", -1: "in its own loops"}
"""TVM's special compute locations; others count the consumer's loops from the outermost, 0."""


@dataclass(frozen=True)
class Change:
    """One decision in which two schedules differ."""

    what: str
    before: str | None
    """None if there was no such decision."""
    after: str | None


def changes(before: str | None, after: str) -> tuple[Change, ...]:
    """How the decisions of trace `after` differ from those of trace `before` (canonical JSON; None = no decisions)."""
    old, new = {} if before is None else decisions(before), decisions(after)
    return tuple(
        Change(what, old.get(what), new.get(what)) for what in {**old, **new} if old.get(what) != new.get(what)
    )


def decisions(trace: str) -> dict[str, str]:
    """Every decision of a trace in words: subject -> decision, in the order of the instructions."""
    instructions, decided = json.loads(trace)
    values = dict(decided)
    names: dict[str, str] = {}
    """Variable of a block or loop -> readable name."""
    drawn: dict[str, Any] = {}
    """Variable of a sampled number -> the number; the instruction that uses it tells its purpose."""
    found: dict[str, str] = {}
    for position, (kind, inputs, attributes, outputs) in enumerate(instructions):
        subject = _subject(inputs, names)
        match kind:
            case "GetSBlock":
                names[outputs[0]] = attributes[0]
            case "GetLoops":
                names.update((loop, f"{subject}, loop {n} of {len(outputs)}") for n, loop in enumerate(outputs, 1))
            case "Split":
                names.update((loop, f"{subject}, tile {n}") for n, loop in enumerate(outputs, 1))
            case "SampleCategorical":
                drawn[outputs[0]] = attributes[0][values[position]]
            case "SampleComputeLocation":
                place = values[position]
                _add(found, f"{subject}: computed", _PLACES.get(place, f"in loop {place + 1} of its consumer"))
            case "Annotate":
                value = str(inputs[1])
                _add(found, f"{subject}: {_key(attributes)}", str(drawn.get(value, value)).strip('"'))
                continue
            case "Unannotate":
                found.pop(f"{subject}: {_key(attributes)}", None)
            case _ if isinstance(values.get(position), list):  # the factors of a tiled loop
                _add(found, f"{subject}: tiles", json.dumps(values[position], separators=(",", ":")))
            case _:
                name = _DERIVED.get(kind, f"{kind} of {{}}").format(subject.partition(",")[0])
                names.update((block, name) for block in outputs)
        for number in (i for i in map(str, inputs) if i in drawn):
            _add(found, f"{subject}: {kind}", str(drawn[number]))
    return found


def _subject(inputs: list[Any], names: dict[str, str]) -> str:
    """The block or loop that an instruction operates on: its first input."""
    first = inputs[0] if inputs else ""
    return names.get(first, first) if isinstance(first, str) else ""


def _key(attributes: list[Any]) -> str:
    """The name of an annotation."""
    return str(attributes[0]).removeprefix("meta_schedule.")


def _add(found: dict[str, str], what: str, value: str) -> None:
    """Add a decision, numbering it if an earlier one has the same subject."""
    count = sum(1 for name in found if name == what or name.startswith(f"{what} ("))
    found[f"{what} ({count + 1})" if count else what] = value
