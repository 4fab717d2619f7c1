"""No prompt shows what a search has still to find: the fastest program known of its workload."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from colt_pipeline.assemble import assemble
from colt_pipeline.llm.compact import decisions, outline
from colt_pipeline.llm.prompt import render
from colt_pipeline.llm.proposer import Proposer
from colt_pipeline.records import Answer, ModelSpec, PromptContext
from colt_pipeline.search.loop import search
from colt_pipeline.search.state import State
from tests.support import ROOT, Compose

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

RECORDINGS = ROOT / "results/recordings/amd-epyc-znver3-2c"
WORKLOAD = "llama3_8b_attention"
RUN = f"{WORKLOAD}/cpu-colt-8-gpt-5.2-n64-s1"
"""A run that found the fastest program of all recorded runs of its workload."""


def fastest_known() -> str:
    """The recorded digits of the key of the fastest program of the workload in any search's recording."""
    measured: dict[str, float] = {}
    for path in sorted((RECORDINGS / "search" / WORKLOAD).glob("*/measurements.jsonl")):
        for line in path.read_text().splitlines()[1:]:
            entry = json.loads(line)
            if "error" not in entry:
                measured[entry["program"]] = statistics.median(entry["run_secs"])
    return min(measured, key=measured.__getitem__)


@dataclass
class Listening:
    """Passes questions on, and keeps what was shown when."""

    proposer: Proposer
    state: State
    target: str
    """The first digits of a program's key."""
    before: list[PromptContext] = field(default_factory=list)
    """What was told before the search had made that program."""
    after: list[PromptContext] = field(default_factory=list)

    def ask(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Answer:
        made = any(program.startswith(self.target) for program in self.state.known)
        (self.after if made else self.before).append(context)
        return self.proposer.ask(model, context, occurrences)


def test_no_prompt_shows_the_fastest_known_program_before_the_search_has_made_it(
    composed: Compose, tmp_path: Path
) -> None:
    source = RECORDINGS / "search" / RUN
    shutil.copytree(source, tmp_path / "results/recordings" / RECORDINGS.name / "search" / RUN)
    known = f"pretraining={ROOT / 'results/pretraining'}"
    config = composed("experiment=search", f"workload={WORKLOAD}", "seed=1", f"run={RUN}", "record=replay", known)
    with assemble(config) as job:
        assert isinstance(job.world.proposer, Proposer)
        listening = Listening(job.world.proposer, job.state, fastest_known())
        for _ in search(replace(job.world, proposer=listening), job.journal, job.state):
            pass
        (best,) = (job.world.program(p) for key, p in job.state.programs.items() if key.startswith(listening.target))
        sites = job.world.space.sites(best)

    def shown(context: PromptContext) -> list[bool]:
        """Whether the context shows the best program: by its text, and by each of the ways to write it down."""
        full, compact = ("\n".join(m["content"] for m in render(context, code)) for code in ("full", "compact"))
        return [
            best.key in full,
            best.trace_json in full,
            best.code in full,
            "\n".join(best.history) in full,
            f"\n{outline(best.code)}\n" in compact,
            decisions(best.history) in [decisions(program.history) for program in context.lineage],
            context.sites == sites,
        ]

    assert len(listening.before) > 50
    assert not any(any(shown(context)) for context in listening.before)
    assert any(sum(shown(context)) == 5 for context in listening.after)  # all but key and trace: so it looks when seen
