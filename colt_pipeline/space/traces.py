"""Compact storage for the traces of a batch: each instruction is written once, a trace is a list of indices.

TVM's JSON of a trace repeats the instructions of its design space, which most programs of a batch share.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from colt_pipeline.errors import SpaceError
from colt_pipeline.records import canonical_json


@dataclass(frozen=True)
class Packed:
    """Some traces, as they are written to a recording."""

    instructions: list[Any]
    """TVM's JSON of each distinct instruction, in the order of first use."""
    traces: list[list[Any]]
    """Per trace: the indices of its instructions, and its decisions in TVM's JSON."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def pack(traces: Sequence[str]) -> Packed:
    """Pack traces in TVM's JSON, as in `Program.trace_json`; `unpack` restores them byte for byte."""
    numbers: dict[str, int] = {}
    packed: list[list[Any]] = []
    for instructions, decisions in map(json.loads, traces):
        packed.append([[numbers.setdefault(canonical_json(i), len(numbers)) for i in instructions], decisions])
    return Packed([json.loads(text) for text in numbers], packed)


def unpack(instructions: Any, traces: Any) -> list[str]:
    """The traces of `Packed.to_json`.

    Raises:
        SpaceError: these are not packed traces.
    """
    try:
        return [canonical_json([[instructions[i] for i in used], decisions]) for used, decisions in traces]
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise SpaceError(f"the recording contains invalid packed traces ({error}): {str(traces)[:80]}") from error
