"""Compact storage for the traces of a batch: each instruction is written once, a trace is a list of indices.

TVM's JSON of a trace repeats the instructions of its design space, which most programs of a batch share.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from colt_pipeline.records import canonical_json
from colt_pipeline.traces import check_trace


@dataclass(frozen=True)
class Packed:
    """Some traces, as they are written to a recording."""

    instructions: list[Any]
    """TVM's JSON of each distinct instruction, in the order of first use."""
    traces: list[tuple[list[int], list[Any]]]
    """Per trace: the indices of its instructions, and its decisions in TVM's JSON."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def pack(traces: Sequence[str]) -> Packed:
    """Pack traces in TVM's JSON, as in `Program.trace_json`; `unpack` restores them byte for byte."""
    numbers: dict[str, int] = {}
    packed: list[tuple[list[int], list[Any]]] = []
    for instructions, decisions in map(json.loads, traces):
        packed.append(([numbers.setdefault(canonical_json(i), len(numbers)) for i in instructions], decisions))
    return Packed([json.loads(text) for text in numbers], packed)


def unpack(packed: Packed) -> list[str]:
    """The traces, each of which may be applied.

    Raises:
        ValueError: one is not a trace that TVM's rules and mutators make.
    """
    return [_unpacked(packed.instructions, number, *trace) for number, trace in enumerate(packed.traces)]


def _unpacked(instructions: list[Any], number: int, used: list[int], decisions: list[Any]) -> str:
    for index in used:
        if not 0 <= index < len(instructions):
            raise ValueError(f"program {number} uses instruction {index} of {len(instructions)}")
    trace = [[instructions[index] for index in used], decisions]
    try:
        check_trace(trace)
    except ValueError as error:
        raise ValueError(f"program {number}: {error}") from error
    return canonical_json(trace)
