"""No prompt shows what a search has yet to find: the fastest known program of its workload."""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from colt_pipeline.assemble import assemble
from colt_pipeline.llm.compact import decisions, outline
from colt_pipeline.llm.prompt import render
from colt_pipeline.records import Answer, ModelSpec, PromptContext
from colt_pipeline.search.loop import search
from stages.benchmarks.replays import Listening
from tests.support import ROOT, Compose

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

RECORDINGS = ROOT / "results/recordings/amd-epyc-znver3-2c"
WORKLOAD = "llama3_8b_attention"
RUN = f"{WORKLOAD}/cpu-colt-8-gpt-5.2-n64-s1"
"""A run that found the fastest program among all recorded runs of its workload."""


def fastest_known() -> str:
    """The recorded digits of the key of the workload's fastest program in any recording."""
    measured: dict[str, float] = {}
    for path in sorted((RECORDINGS / "search" / WORKLOAD).glob("*/measurements.jsonl")):
        for line in path.read_text().splitlines()[1:]:
            entry = json.loads(line)
            if "error" not in entry:
                measured[entry["program"]] = statistics.median(entry["run_secs"])
    return min(measured, key=measured.__getitem__)


def test_no_prompt_shows_the_fastest_known_program_before_the_search_has_made_it(
    composed: Compose, tmp_path: Path
) -> None:
    source = RECORDINGS / "search" / RUN
    shutil.copytree(source, tmp_path / "results/recordings" / RECORDINGS.name / "search" / RUN)
    known = f"pretraining={ROOT / 'results/pretraining_legacy'}"
    config = composed(
        "experiment=search", "search=colt", f"workload={WORKLOAD}", "seed=1", f"run={RUN}", "record=replay", known
    )
    with assemble(config) as job:
        digits, state = fastest_known(), job.state
        before: list[PromptContext] = []
        """The contexts from before the search made that program."""
        after: list[PromptContext] = []

        def keep(model: ModelSpec, context: PromptContext, answer: Answer) -> None:
            (after if any(program.startswith(digits) for program in state.known) else before).append(context)

        for _ in search(replace(job.world, proposer=Listening(job.world.proposer, keep)), job.journal, state):
            pass
        (best,) = (job.world.program(p) for key, p in state.programs.items() if key.startswith(digits))
        sites = job.world.space.sites(best)

    def shown(context: PromptContext) -> list[bool]:
        """Whether the context shows the best program, in any of its representations."""
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

    assert len(before) > 50
    assert not any(any(shown(context)) for context in before)
    assert any(sum(shown(context)) == 5 for context in after)  # every part of it that prompts show
