"""Compact storage for the traces of a batch: each instruction is written once, a trace is a list of indices.

TVM's JSON of a trace repeats the instructions of its design space, which most programs of a batch share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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


def check_packed(packed: Packed) -> None:
    """Check that the traces can be unpacked, and that each may be applied.

    Raises:
        ValueError: one is not a trace that TVM's rules and mutators make.
    """
    count = len(packed.instructions)
    for number, (used, _) in enumerate(packed.traces):
        if (index := next((index for index in used if not 0 <= index < count), None)) is not None:
            raise ValueError(f"program {number} uses instruction {index} of {count}")
    for number, trace in enumerate(_unpacked(packed)):
        try:
            check_trace(trace)
        except ValueError as error:
            raise ValueError(f"program {number}: {error}") from error


def unpack(packed: Packed) -> Iterator[str]:
    """The traces, one by one: a few bytes can name large instructions many times."""
    return map(canonical_json, _unpacked(packed))


def _unpacked(packed: Packed) -> Iterator[list[Any]]:
    for used, decisions in packed.traces:
        yield [[packed.instructions[index] for index in used], decisions]
