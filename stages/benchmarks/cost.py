"""What the paper's protocol would cost with real models: tokens and USD, estimated from recorded runs.

The runs of an experiment are replayed, and each call is counted as if its model were asked, with the default and with
the compact prompt. Nothing is asked live. Every number is an estimate, for these reasons:

- A token is assumed to be 4 characters. If a model's answers can be constrained by a JSON schema, the schema counts as
  part of the prompt, as it does for providers; stand-ins are asked without one.
- The recorded calls are scaled linearly to 1000, although prompts grow a little with the depth of the tree, the first
  programs need no call, and the distribution of calls over models may shift.
- Stand-ins answered. Their answers are a bare JSON object; reasoning models write far more. The cost of answers as long
  as each model may write is therefore given too, as an upper bound.
- The compact prompt is assumed to lead to the same calls and answers as the default one.

Retries of failed calls and discounts for cached prompts are not included.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.llm.client import CHARACTERS_PER_TOKEN, Question
from colt_pipeline.llm.proposer import Proposer
from colt_pipeline.measurement.backend import find_recording
from colt_pipeline.records import Answer, ModelSpec, PromptContext
from colt_pipeline.runs.costs import Estimate, Prices, Tokens, configured_prices, longest_answers, scaled
from colt_pipeline.search.loop import search
from colt_pipeline.serialization import canonical_json
from colt_pipeline.stack import usable_cores
from colt_pipeline.workloads import PAPER
from colt_pipeline.workloads.catalogue import build
from stages.benchmarks import Row, command_line, names, positive, write_rows
from stages.benchmarks.replays import Listening, in_scratch

LARGE = "large"
MODEL_SETS = ("small", LARGE, "2", "4", "8")

Calls = Mapping[str, Sequence[Tokens]]
"""Model -> tokens of each of its calls."""


@dataclass(frozen=True)
class Replayed:
    """What the calls of one recorded run would cost with live models."""

    samples: int
    calls: Mapping[str, Calls]
    """Form of the prompt -> calls."""


def prompt_tokens(question: Question) -> int:
    """Tokens of a question's messages and schema, estimated from their characters."""
    characters = sum(len(message["content"]) for message in question.messages)
    if question.answer_schema is not None:
        characters += len(canonical_json(question.answer_schema))
    return characters // CHARACTERS_PER_TOKEN


def rows(results: Path, experiment: str, workloads: Sequence[str], samples: int, overrides: Sequence[str]) -> list[Row]:
    """One row per workload, model set and form of the prompt, then the sums over the workloads.

    Raises:
        ColtError: a recording is missing, or a model has no price.
    """
    chosen = [f"results={results}", f"experiment={experiment}", "record=replay", *overrides]
    configs = {
        (workload, model_set): composed([f"workload={workload}", f"model_set={model_set}", *chosen])
        for workload in workloads
        for model_set in MODEL_SETS
    }
    for config in configs.values():  # before any is replayed
        find_recording(config, build(**vars(config.workload)))
    # Spawn rather than fork: TVM has threads.
    with ProcessPoolExecutor(usable_cores(), get_context("spawn")) as processes:
        runs = dict(zip(configs, processes.map(replayed, configs.values()), strict=True))
    prices = {name: price for config in configs.values() for name, price in configured_prices(_real(config)).items()}
    longest = {name: most for config in configs.values() for name, most in longest_answers(_real(config)).items()}
    return table(runs, samples, prices, longest)


def replayed(config: Config) -> Replayed:
    """Replay a run in its own directory and count its calls.

    Raises:
        RecordingError: the recording lacks something the run asks for.
    """
    with in_scratch(config) as copy, assemble(copy) as job:
        sampling, prompt = config.llm.sampling, config.prompt
        forms = {
            form: Proposer(job.cassette, sampling, replace(prompt, code=form), config.seed)
            for form in (prompt.code, "compact")
        }
        models = {model.name: model for model in _real(config).model_specs}
        calls: dict[str, dict[str, list[Tokens]]] = {form: {name: [] for name in models} for form in forms}

        def count(model: ModelSpec, context: PromptContext, answer: Answer) -> None:
            for form, wording in forms.items():
                question = wording.question(models[model.name], context)
                calls[form][model.name].append(Tokens(prompt_tokens(question), answer.reply.completion_tokens))

        proposer = Listening(job.world.proposer, count)
        for _ in search(replace(job.world, proposer=proposer), job.journal, job.state):
            pass
        return Replayed(job.state.spent, calls)


def table(
    runs: Mapping[tuple[str, str], Replayed], samples: int, prices: Prices, longest_tokens: Mapping[str, int]
) -> list[Row]:
    """The rows of the benchmark.

    Args:
        runs: (workload, model set) -> run.
        samples: samples to scale to.
        prices: model -> price.
        longest_tokens: model -> tokens of its longest possible answer.

    Raises:
        ConfigError: a model has no price.
    """
    likely: dict[tuple[str, str, str], Estimate] = {}
    longest: dict[tuple[str, str, str], Estimate] = {}
    workloads = list(dict.fromkeys(workload for workload, _ in runs))
    every = f"all {'five' if len(workloads) == 5 else len(workloads)}"
    basis = _basis({run.samples for run in runs.values()}, samples)
    for (workload, model_set), run in runs.items():
        for form, calls in run.calls.items():
            key = workload, model_set, form
            likely[key], longest[key] = scaled(calls, run.samples, samples, prices, longest_tokens)
    for found in (likely, longest):
        for (_, model_set, form), part in tuple(found.items()):
            found[every, model_set, form] = found.get((every, model_set, form), Estimate()) + part
    return [
        {
            "workload": workload,
            "model_set": model_set,
            "prompt": form,
            "calls": round(total.calls),
            "prompt_tokens_est": round(total.prompt_tokens),
            "completion_tokens_est": round(total.completion_tokens),
            "usd_est": round(total.usd, 4),
            "usd_if_longest_answers": round(longest[workload, model_set, form].usd, 4),
            "usd_over_large": round(total.usd / likely[workload, LARGE, form].usd, 4),
            "basis": basis,
        }
        for (workload, model_set, form), total in likely.items()
    ]


def _basis(recorded: set[int], samples: int) -> str:
    """What a row is based on, in words."""
    numbers = " or ".join(map(str, sorted(recorded)))
    return f"estimate: stand-in LLMs, {numbers} samples scaled to {samples}, {CHARACTERS_PER_TOKEN} characters a token"


def _real(config: Config) -> Config:
    """The same run with live models."""
    return replace(config, stand_ins=False)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.cost --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="directory of the recordings")
    parser.add_argument("--experiment", default="cpu", help="group of recorded runs")
    parser.add_argument("--workloads", type=names, default=PAPER, help="comma-separated; default: the paper's five")
    parser.add_argument("--samples", type=positive, default=1000, help="number of samples to scale to")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides that the runs were recorded with")
    given = parser.parse_intermixed_args(argv)
    return write_rows(
        lambda: rows(given.results, given.experiment, given.workloads, given.samples, given.overrides),
        given.out / "cost.csv",
    )


if __name__ == "__main__":
    sys.exit(main())
