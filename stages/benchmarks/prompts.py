"""How long prompts are, and how much of them a provider's cache can serve.

Searches of their own: latencies are derived from a hash of the program, and stand-ins answer. Each question is worded
as it is asked, and as it was before prompts told what changed rather than whole programs (``search.legacy``). A token
is assumed to be 4 characters. What can be served from a cache is the longest common beginning with the last question to
the same model, in whole blocks of 128 tokens, and nothing below 1024, as OpenAI documents it (2026).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.llm.client import CHARACTERS_PER_TOKEN
from colt_pipeline.llm.prompt import render
from colt_pipeline.records import Answer, ModelSpec, PromptContext
from colt_pipeline.search.loop import search
from colt_pipeline.workloads import PAPER
from stages.benchmarks import Row, command_line, names, positive, write_rows
from stages.benchmarks.hashes import HashMeasurer
from stages.benchmarks.replays import Listening

SEARCHES = {"paper": "tvm", "colt_plus": "extended"}
"""Search -> its design space."""
_BLOCK = 128
_LEAST = 1024
"""Tokens that a provider's cache serves together, and from how many on."""

Asked = Sequence[tuple[str, str]]
"""The questions of a run, in order: the model and the whole text."""


def rows(workloads: Sequence[str], model_sets: Sequence[str], samples: int, overrides: Sequence[str]) -> list[Row]:
    """One row per workload, search and model set."""
    found: list[Row] = []
    for workload in workloads:
        for name, space in SEARCHES.items():
            for model_set in model_sets:
                chosen = [f"workload={workload}", f"search={name}", f"space={space}", f"model_set={model_set}"]
                chosen += [f"samples={samples}", "search.warmup_samples=16", "search.legacy=false", "device=local"]
                with tempfile.TemporaryDirectory() as scratch:
                    before, now = _asked(composed([*chosen, f"results={scratch}", *overrides]))
                facts: Row = {"workload": workload, "search": name, "models": len({model for model, _ in now})}
                found.append(facts | row(before, now))
    return found


def row(before: Asked, now: Asked) -> Row:
    """Tokens per question and the share of them that a cache can serve, before and now."""
    old, new = _tokens(before), _tokens(now)
    return {
        "questions": len(now),
        "tokens_before": round(old / len(before)),
        "tokens": round(new / len(now)),
        "tokens/before": round(new / old, 3),
        "cacheable_before": round(cacheable(before) / old, 3),
        "cacheable": round(cacheable(now) / new, 3),
    }


def cacheable(asked: Asked) -> int:
    """Tokens that a cache can serve."""
    last: dict[str, str] = {}
    served = 0
    for model, text in asked:
        common = len(os.path.commonprefix([last.get(model, ""), text])) // CHARACTERS_PER_TOKEN
        served += common // _BLOCK * _BLOCK if common >= _LEAST else 0
        last[model] = text
    return served


def _tokens(asked: Asked) -> int:
    return sum(len(text) for _, text in asked) // CHARACTERS_PER_TOKEN


def _asked(config: Config) -> tuple[Asked, Asked]:
    """The questions of a fresh search in both wordings."""
    before: list[tuple[str, str]] = []
    now: list[tuple[str, str]] = []

    def hear(model: ModelSpec, context: PromptContext, answer: Answer) -> None:
        before.append((model.name, _text(replace(context, progress=None), "full", "full")))
        now.append((model.name, _text(context, config.prompt.code, config.prompt.trace)))

    with assemble(config, HashMeasurer) as job:
        world = replace(job.world, proposer=Listening(job.world.proposer, hear))
        for _ in search(world, job.journal, job.state):
            pass
    return before, now


def _text(context: PromptContext, code: str, trace: str) -> str:
    return "".join(message["content"] for message in render(context, code, trace))


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.prompts --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--workloads", type=names, default=PAPER, help="comma-separated; default: the paper's five")
    parser.add_argument("--model-sets", type=names, default=("8", "large"), help="comma-separated")
    parser.add_argument("--samples", type=positive, default=64, help="samples per search")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as prompt.code=full")
    given = parser.parse_intermixed_args(argv)
    chosen = (given.workloads, given.model_sets, given.samples, given.overrides)
    return write_rows(lambda: rows(*chosen), given.out / "prompts.csv")


if __name__ == "__main__":
    sys.exit(main())
