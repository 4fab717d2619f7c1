"""Ask each model once before a run does: ``python -m colt_pipeline.tools.check_models experiment=live``.

Takes the same arguments as ``python -m colt_pipeline.tune``; of a sweep it checks the models of all runs. They answer
themselves unless stand_ins=true is given. One line per model says whether its key is there and accepted, its name
known, its answer of the form that a search needs (and that of the JSON schema, if it is sent), its price known, and
whether prompts and answers fit into its context; the exit status is 1 if something is wrong. A call is made as in a
run, with the model's own parameters, and takes a hundred tokens or, of a model that reasons, a few hundred more. It is
entered in RESULTS/recordings/checks/EXPERIMENT/spend.jsonl and counts against budget.sweep.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from colt_pipeline.app import printable, with_message
from colt_pipeline.config.arguments import sweep_command_line
from colt_pipeline.config.compose import runs
from colt_pipeline.config.schema import Config, PricesConfig
from colt_pipeline.errors import ConfigError, LLMError
from colt_pipeline.llm.client import TRANSPORT, Client, Question
from colt_pipeline.llm.parse import parse
from colt_pipeline.llm.retries import live_caller
from colt_pipeline.llm.schema import answer_schema
from colt_pipeline.records import ModelSpec, ModelView, PromptContext, Rejection, Reply, Site
from colt_pipeline.runs.budget import Budget
from colt_pipeline.runs.costs import configured_prices, longest_answers
from colt_pipeline.runs.layout import SPENDING, accounts_of, checks_of, recordings_in
from colt_pipeline.tools.forecast import nearest

NOTHING = "nothing to check: stand-ins answer (stand_ins=true), or the search asks no models"
_TRANSFORMATIONS = (("TileSize", ""), ("Unroll", ""))
_SITES = (Site("TileSize", "matmul.i", (2, 8), extent=16, innermost=16),)


@dataclass
class Checked:
    """What was found out about one model."""

    model: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What is wrong, each with the way out."""

    def __str__(self) -> str:
        if self.problems:
            return printable(f"{self.model}  FAILED  {'; '.join([*self.problems, *self.facts])}")
        return printable(f"{self.model}  ok  {'; '.join(self.facts)}")


def checked(configs: Sequence[Config]) -> Iterator[Checked]:
    """Ask each live model of these runs of an experiment once.

    Yields:
        What was found out about a model, as soon as its answer is there.

    Raises:
        ConfigError: there is a limit in USD but a model has no price.
        JournalError, RecordingError: the account or a recording is corrupt.
    """
    clients: dict[str, Client] = {}
    with closing(_budget(configs)) as budget:
        for model, config in _live(configs):
            found = Checked(model.name)
            _check_price(found, model, config)
            _check_context(found, model, config)
            try:
                if model.provider not in clients:
                    clients[model.provider] = live_caller(model.provider, config.providers[model.provider], budget)
                context = _context(config)
                reply = clients[model.provider].complete(_question(model, config, context), 0)
            except LLMError as error:
                found.problems.insert(0, str(error))
            else:
                _check_answer(found, model, context, reply)
            yield found


def _live(configs: Sequence[Config]) -> list[tuple[ModelSpec, Config]]:
    """The live models, each with the largest run that asks it."""
    found: dict[str, tuple[ModelSpec, Config]] = {}
    for config in sorted(configs, key=lambda config: len(config.model_specs), reverse=True):
        for model in config.model_specs:
            if model.provider in config.providers:
                found.setdefault(model.name, (model, config))
    return list(found.values())


def _budget(configs: Sequence[Config]) -> Budget:
    config = configs[0]
    own = checks_of(config.results, config.experiment)
    prices = {name: price for each in configs for name, price in configured_prices(each).items()}
    others = [path for path in accounts_of(config.results, config.experiment) if path != own]
    return Budget(own / SPENDING, config.budget, prices, own, others)


def _context(config: Config) -> PromptContext:
    """The least that an answer is checked against."""
    models = tuple(ModelView(model.name, model.parameters_b, 0, 0.0, 0, 0) for model in config.model_specs)
    sites = _SITES if config.search.decisions else ()
    return PromptContext("", (), _TRANSFORMATIONS, sites, "", 0, 0, 1, models, config.largest)


def _question(model: ModelSpec, config: Config, context: PromptContext) -> Question:
    answer: dict[str, object] = {"transformations": ["Unroll"]}
    if len(context.models) > 1:
        answer["next_model"] = model.name
    messages = [
        {"role": "system", "content": "You answer with one JSON object and nothing else."},
        {"role": "user", "content": f"This is a test of the connection. Answer with {json.dumps(answer)}"},
    ]
    return Question(model, messages, config.llm.sampling, answer_schema(context) if model.json_schema else None)


def _check_answer(found: Checked, model: ModelSpec, context: PromptContext, reply: Reply) -> None:
    """Whether the answer is there, and of the form that a search needs."""
    file = f"conf/models/{model.name}.yaml"
    if reply.finish_reason == TRANSPORT:
        found.problems.insert(0, reply.text)
        return
    served = "" if reply.provider_model in (model.api_model, "None") else f" as {reply.provider_model}"
    cached = f" ({reply.cached_tokens} cached)" if reply.cached_tokens else ""
    tokens = f"{reply.prompt_tokens}{cached} + {reply.completion_tokens} tokens"
    found.facts.insert(0, f"{model.provider} answered{served} in {reply.latency_secs:.1f} s, {tokens}")
    offered = [name for name, _ in context.transformations]
    verdict = parse(reply, offered, [each.name for each in context.models], context.sites)
    if isinstance(verdict, Rejection) and verdict.kind == "truncated":
        way_out = f"raise max_tokens in sampling of {file}, or lower its reasoning_effort"
        found.problems.insert(0, f"the answer was cut off after {reply.completion_tokens} tokens; {way_out}")
    elif isinstance(verdict, Rejection):
        way_out = f"no search could use such answers; choose another model than api_model={model.api_model} in {file}"
        found.problems.insert(0, f"the answer is unusable ({verdict.kind}: {verdict.detail}); {way_out}")
    elif verdict.flaw is not None:
        what = f"the answer names no model of the set to answer next ({verdict.flaw}), so that chance would decide"
        found.problems.insert(0, f"{what}; choose another model than api_model={model.api_model} in {file}")
    elif model.json_schema and not _is_bare(reply.text):
        found.problems.insert(0, f"the JSON schema was not honoured; set json_schema: false in {file}")
    else:
        found.facts.insert(1, "schema honoured" if model.json_schema else "no schema sent")


def _is_bare(text: str) -> bool:
    """Whether a text is JSON alone, as a schema demands."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _check_price(found: Checked, model: ModelSpec, config: Config) -> None:
    price = configured_prices(config)[model.name]
    if price is not None:
        found.facts.append(_shown(price))
    elif config.providers[model.provider].key_env:
        found.problems.append(f"no price, so no limit in USD can hold; give prices in conf/models/{model.name}.yaml")
    else:
        found.facts.append("no price, counted as free")


def _shown(price: PricesConfig) -> str:
    cached = "" if price.cached_input is None else f", {price.cached_input:g} for cached ones"
    return f"USD per million tokens: {price.input:g} for prompts{cached}, {price.output:g} for answers ({price.date})"


def _check_context(found: Checked, model: ModelSpec, config: Config) -> None:
    """Whether the longest prompt so far, if one is recorded, and the longest answer fit into the context."""
    longest, prompt = longest_answers(config)[model.name], _longest_prompt(config)
    prompts = f"recorded prompts up to {prompt}" if prompt else "no recorded prompts"
    limits = f"context {model.context_length or 'unknown'}, {prompts}, answers up to {longest} tokens"
    if 0 < model.context_length < prompt + longest:
        file = f"conf/models/{model.name}.yaml"
        found.problems.append(f"{limits}: too much; lower max_tokens in sampling of {file}, or set prompt.code=compact")
    else:
        found.facts.append(limits)


def _longest_prompt(config: Config) -> int:
    """Tokens of the longest prompt of the most similar recorded runs; 0 if there are none."""
    try:
        known, _, _ = nearest(config, recordings_in(config.results))
    except ConfigError:
        return 0
    return max(tokens.prompt for calls in known.tokens.values() for tokens in calls)


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Check the models; exit status 1 if something is wrong with one, or with a message if none can be asked."""
    if (line := sweep_command_line(argv, __doc__)) is None:
        return 0
    configs = runs(["stand_ins=false", *line.overrides], line.config_dir)
    count = failed = 0
    for found in checked(configs):
        print(found, flush=True)
        count, failed = count + 1, failed + bool(found.problems)
    if not count:
        print(NOTHING)
    elif failed:
        print(f"{failed} of {count} models failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
