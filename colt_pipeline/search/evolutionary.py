"""The baseline without LLMs and tree: TVM's evolution breeds batches of programs, and all of them are measured.

It shares journal, ledger and measurement with the tree search, so the two differ only in what they measure.
"""

from __future__ import annotations

from colt_pipeline.runs.events import Bred, Candidate, Event, Finished
from colt_pipeline.search.state import State
from colt_pipeline.search.world import EvolutionLike, P, World


def next_event(world: World[P], evolution: EvolutionLike[P], state: State) -> Event:
    """What happens next: measure bred programs, breed a batch from the measurements, or finish."""
    if len(state.samples) >= world.samples:
        return Finished("budget")
    if state.pending:
        return world.measure(state.pending[: world.settings.batch_size])
    measured = [(world.program(state.programs[s.program]), s) for s in state.samples]
    programs = evolution.next_batch(measured)
    if not programs:
        return Finished("exhausted")
    return Bred(tuple(Candidate(p.key, p.trace_json) for p in programs))
