"""A live model's answers to the prompts of a recorded run: how many are valid, and how far they follow their order.

The contexts come from a replay of the run. Each is asked again, with and without a JSON schema that constrains the
answer, and with transformations and models offered in two other orders. Nothing is recorded.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.llm.client import Client, Question
from colt_pipeline.llm.parse import parse
from colt_pipeline.llm.prompt import ORDERS, render
from colt_pipeline.llm.redact import redacted
from colt_pipeline.llm.retries import live_caller
from colt_pipeline.llm.schema import answer_schema
from colt_pipeline.records import ModelSpec, PromptContext, Proposal
from colt_pipeline.runs.budget import Budget
from colt_pipeline.runs.costs import configured_prices
from colt_pipeline.runs.layout import SPENDING
from colt_pipeline.search.loop import search
from stages.benchmarks import Row, command_line, positive, write_rows
from stages.benchmarks.replays import Listening, in_scratch


@dataclass(frozen=True)
class Condition:
    """How the contexts are asked."""

    constrained: bool
    """Whether a JSON schema constrains the answer."""
    order_seed: int


CONDITIONS: dict[str, Condition] = {
    "schema": Condition(True, 1),
    "schema, another order": Condition(True, 2),
    "free": Condition(False, 1),
}


@dataclass(frozen=True)
class Heard:
    """One answer, and what was on offer."""

    offered: tuple[str, ...]
    names: tuple[str, ...]
    """Names of the proposed transformations; empty if the answer was not a valid proposal."""
    kind: str
    """``valid`` or the kind of the rejection."""
    secs: float
    prompt_tokens: int


def rows(results: Path, experiment: str, workload: str, prompts: int, overrides: Sequence[str]) -> list[Row]:
    """One row per condition, over the first `prompts` contexts of the run.

    Raises:
        ConfigError: the run's model is a stand-in.
        ColtError: the recording does not exist, or the server cannot be reached.
    """
    chosen = [f"results={results}", f"experiment={experiment}", f"workload={workload}"]
    config = composed([*chosen, *overrides, "record=replay"])
    model = config.model_specs[0]
    if model.provider not in config.providers:
        raise ConfigError(f"{model.name} is answered by {model.provider}; this needs a live model, see conf/providers")
    contexts = _contexts(config)[:prompts]
    provider = config.providers[model.provider]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as cleanup:
        budget = Budget(Path(scratch) / SPENDING, config.budget, configured_prices(config), Path(scratch))
        cleanup.callback(budget.close)
        client = live_caller(model.provider, provider, budget)
        heard = {name: _ask(client, config, model, contexts, how) for name, how in CONDITIONS.items()}
    same = _agreement(heard["schema"], heard["schema, another order"])
    return [
        {**_row(name, model, answers), "same_under_another_order": same if CONDITIONS[name].constrained else None}
        for name, answers in heard.items()
    ]


def _row(condition: str, model: ModelSpec, answers: Sequence[Heard]) -> Row:
    """Fractions of all answers and of the valid ones."""
    valid = [a for a in answers if a.names]
    return {
        "model": model.name,
        "condition": condition,
        "answers": len(answers),
        "valid": round(fmean(bool(a.names) for a in answers), 3),
        "rejections": " ".join(sorted({a.kind for a in answers if not a.names})) or "-",
        "first_is_first_offered": round(fmean(a.names[0] == a.offered[0] for a in valid), 3) if valid else None,
        "first_by_chance": round(fmean(1 / len(a.offered) for a in valid), 3) if valid else None,
        "secs_per_call": round(fmean(a.secs for a in answers), 2),
        "prompt_tokens": round(fmean(a.prompt_tokens for a in answers)),
    }


def _agreement(first: Sequence[Heard], second: Sequence[Heard]) -> float | None:
    """Fraction of contexts whose two answers propose the same set of names, among those with two valid answers."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a.names and b.names]
    return round(fmean(set(a.names) == set(b.names) for a, b in both), 3) if both else None


def _ask(
    client: Client, config: Config, model: ModelSpec, contexts: Sequence[PromptContext], how: Condition
) -> list[Heard]:
    return [_heard(client, config, model, ORDERS["seeded"](context, how.order_seed), how) for context in contexts]


def _heard(client: Client, config: Config, model: ModelSpec, offer: PromptContext, how: Condition) -> Heard:
    schema = answer_schema(offer) if how.constrained else None
    rendered = render(offer, config.prompt.code, config.prompt.trace)
    messages = [{**m, "content": redacted(m["content"])} for m in rendered]
    reply = client.complete(Question(model, messages, config.llm.sampling, schema), 0)
    offered = tuple(name for name, _ in offer.transformations)
    verdict = parse(reply, offered, [m.name for m in offer.models], offer.sites)
    names = tuple(edit.name for edit in verdict.transformations) if isinstance(verdict, Proposal) else ()
    kind = "valid" if isinstance(verdict, Proposal) else verdict.kind
    return Heard(offered, names, kind, reply.latency_secs, reply.prompt_tokens)


def _contexts(config: Config) -> list[PromptContext]:
    """The contexts of all calls in a recorded run."""
    with in_scratch(config) as copy, assemble(copy) as job:
        contexts: list[PromptContext] = []
        proposer = Listening(job.world.proposer, lambda model, context, answer: contexts.append(context))
        for _ in search(replace(job.world, proposer=proposer), job.journal, job.state):
            pass
    return contexts


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.answers --out results/benchmark``, with the model's server running."""
    parser = command_line(__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="directory of the recordings")
    parser.add_argument("--experiment", default="local", help="group of recorded runs")
    parser.add_argument("--workload", default="llama3_8b_attention")
    parser.add_argument("--prompts", type=positive, default=12, help="number of the run's prompts to ask")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides that the run was recorded with")
    given = parser.parse_intermixed_args(argv)
    return write_rows(
        lambda: rows(given.results, given.experiment, given.workload, given.prompts, given.overrides),
        given.out / "answers.csv",
    )


if __name__ == "__main__":
    sys.exit(main())
