"""Batches of programs in ``candidates.jsonl`` and ``drafts.jsonl``: instructions are written once, traces are indices.

TVM's JSON of a trace repeats the instructions of its design space, which most programs of a batch share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from colt_pipeline.runs.recorded import Fields
from colt_pipeline.serialization import Count, canonical_json, typed
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


def unpack(packed: Packed) -> Iterator[str]:
    """The traces, one by one: a few bytes can name large instructions many times."""
    return map(canonical_json, _unpacked(packed))


def _unpacked(packed: Packed) -> Iterator[list[Any]]:
    for used, decisions in packed.traces:
        yield [[packed.instructions[index] for index in used], decisions]


@dataclass(frozen=True)
class _Batch(Packed):
    """A line."""

    key: str
    measured: Count
    """Number of programs measured before."""


def read_batch(line: Fields) -> tuple[str, Fields]:
    """The key of a batch, and its line.

    Raises:
        ValueError: the line is not a batch, or has a trace that no rule or mutator makes.
    """
    batch = typed(_Batch, line)
    check_packed(batch)
    return batch.key, line


def check_packed(packed: Packed) -> None:
    """Check that traces may be applied.

    Raises:
        ValueError: one uses an instruction that is not there, or is none that a rule or mutator makes.
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
