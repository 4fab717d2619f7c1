"""Config -> objects, by name -> factory dicts. The only module that knows every package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from colt_pipeline import stack
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import DeviceMismatchError
from colt_pipeline.job import Job
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.client import Client
from colt_pipeline.llm.embedded import EmbeddedClient
from colt_pipeline.llm.proposer import Proposer
from colt_pipeline.llm.random_proposer import RandomProposer
from colt_pipeline.llm.retries import Caller
from colt_pipeline.records import EMBEDDED, written
from colt_pipeline.runs.budget import Budget
from colt_pipeline.runs.costs import configured_prices
from colt_pipeline.runs.events import Finished, Started
from colt_pipeline.runs.journal import Journal
from colt_pipeline.runs.layout import (
    ANSWERS,
    CANDIDATES,
    MEASUREMENTS,
    SPENDING,
    recordings_in,
    run_directory,
    set_aside,
)
from colt_pipeline.runs.rundir import RunDir
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.search.state import State
from colt_pipeline.search.world import CostModelLike, ProposerLike, World

stack.require()  # before TVM is imported: a wrong tvm-ffi would crash the process

from colt_pipeline.measurement.backend import Recording, find_recording  # noqa: E402
from colt_pipeline.measurement.devices import Device, describe, hardware  # noqa: E402
from colt_pipeline.measurement.evaluator import Evaluator  # noqa: E402
from colt_pipeline.measurement.ledger import Header, Ledger  # noqa: E402
from colt_pipeline.measurement.measurer import Measurer  # noqa: E402
from colt_pipeline.prediction.cost_model import CostModel  # noqa: E402
from colt_pipeline.prediction.evolution import Evolution, TvmEvolution  # noqa: E402
from colt_pipeline.prediction.pretrained import PretrainedModel, read_experience  # noqa: E402
from colt_pipeline.space import Program, Space  # noqa: E402
from colt_pipeline.workloads.catalogue import build  # noqa: E402
from colt_pipeline.workloads.workload import Workload  # noqa: E402

JOURNAL_SCHEMA = 1


def _client(config: Config, budget: Budget, provider: str) -> Client:
    """What answers for a provider; made at its first question that has no recorded answer."""
    if provider == EMBEDDED:
        return EmbeddedClient()
    from colt_pipeline.llm.openai_client import OpenAIClient  # its import takes a second that only live runs should pay

    settings = config.providers[provider]
    return Caller(OpenAIClient(provider, settings), provider, settings.attempts, budget)


PROPOSERS: dict[str, Callable[[Config, Cassette], ProposerLike]] = {
    "llm": lambda config, cassette: Proposer(cassette, config.llm.sampling, config.prompt, config.seed),
    "uniform": lambda config, cassette: RandomProposer("even"),
    "tvm": lambda config, cassette: RandomProposer("tvm"),
    "none": lambda config, cassette: RandomProposer("tvm"),
}
"""``search.proposer`` -> who proposes."""


def _pretrained(config: Config, workload: Workload, space: Space) -> PretrainedModel:
    # Features of a GPU program have little in common with those of a CPU program.
    others = read_experience(Path(config.pretraining), workload.hash) if config.target.kind == "llvm" else []
    return PretrainedModel(space, config.search.warmup_samples, others)


COST_MODELS: dict[str, Callable[[Config, Workload, Space], CostModelLike[Program]]] = {
    "xgb": lambda config, workload, space: CostModel(space, config.search.warmup_samples),
    "pretrained": _pretrained,
}
"""``search.cost_model`` -> what predicts scores."""


@contextmanager
def assemble(
    config: Config, make_measurer: Callable[[Workload], Measurer] | None = None, peers: Sequence[State] = ()
) -> Iterator[Job]:
    """The objects of one run, released at the end.

    `make_measurer` replaces the backend's (tests do so); `peers`: see `State`.

    Raises:
        ColtError: configuration, recordings or run directory do not allow the run.
    """
    workload = build(config.workload.name, config.workload.shape)
    recording = find_recording(config, workload)
    header, target, backend = recording.header, recording.header["target"], recording.backend
    rundir = RunDir(run_directory(config.results, config.experiment, config.run), config.identity())
    with ExitStack() as cleanup:
        journal = Journal(rundir.journal)
        cleanup.callback(journal.close)
        _same_world(journal, workload, header)
        if not any(isinstance(event, Finished) for event in journal.events):
            rundir.reopen()
        if config.record.mode == "all" and not journal.events:
            set_aside(recording.directory)
        stopwatch = Stopwatch()
        prices = configured_prices(config)
        sweep = recordings_in(config.results) / Device(header["device"]).slug / config.experiment
        budget = Budget(recording.directory / SPENDING, config.budget, prices, sweep)
        cleanup.callback(budget.close)
        make_client = None if backend is None else lambda provider: _client(config, budget, provider)
        cassette = Cassette(recording.directory / ANSWERS, make_client, stopwatch)
        cleanup.callback(cassette.close)

        def measurer() -> Measurer:
            assert backend is not None
            return make_measurer(workload) if make_measurer else backend.make_measurer(workload)

        ledger = Ledger(recording.directory / MEASUREMENTS, header, "replay" if backend is None else "append")
        cleanup.callback(ledger.close)
        device = Device(header["device"])
        evaluator = Evaluator(
            workload,
            ledger,
            header,
            None if backend is None else measurer,
            recordings_in(config.results) / device.slug,
            "this_run" if config.record.mode == "all" else "any_run",
        )
        cleanup.callback(evaluator.close)
        space = Space(workload.module, target)
        evolution = _evolution(config, space, recording, stopwatch)
        if evolution is not None:
            cleanup.callback(evolution.close)

        def start() -> Started:
            return Started(
                schema=JOURNAL_SCHEMA,
                workload=workload.name,
                workload_hash=workload.hash,
                target=target,
                device=device.slug,
                measurement=header["measurement"],
                baseline_secs=evaluator.baseline_secs(space.baseline),
            )

        models = config.model_specs
        world = World(
            settings=config.search,
            models=models,
            seed=config.seed,
            samples=config.samples,
            target=describe(target, device.facts),
            hardware=hardware(target, config.target.l2_kib),
            start=start,
            space=space,
            cost_model=COST_MODELS[config.search.cost_model](config, workload, space),
            evaluator=evaluator,
            proposer=PROPOSERS[config.search.proposer](config, cassette),
            stopwatch=stopwatch,
            evolution=evolution,
        )
        state = State(models, config.search, peers)
        yield Job(
            config=config,
            workload=workload,
            rundir=rundir,
            journal=journal,
            state=state,
            world=world,
            cassette=cassette,
            budget=budget,
            prices=prices,
            evolution=evolution,
            evaluator=evaluator,
            target=target,
            source=recording.description,
        )


def _evolution(config: Config, space: Space, recording: Recording, stopwatch: Stopwatch) -> Evolution | None:
    """What makes the programs of an evolutionary search; None for a tree search."""
    search, evolution = config.search, config.search.evolution
    if search.grows_tree:
        return None
    assert evolution is not None
    settings = written(evolution) | {"warmup_samples": search.warmup_samples, "budget": config.samples}

    def make_strategy() -> TvmEvolution:
        return TvmEvolution(space, evolution, search.warmup_samples, config.samples)

    path, make = recording.directory / CANDIDATES, None if recording.backend is None else make_strategy
    return Evolution(path, space, settings | {"seed": config.seed}, make, stopwatch)


def _same_world(journal: Journal, workload: Workload, header: Header) -> None:
    """A journal goes on only where it began: same format, workload, target and device."""
    begun = next((event for event in journal.events if isinstance(event, Started)), None)
    if begun is None:
        return
    device = Device(header["device"]).slug
    there = (begun.schema, begun.workload_hash, begun.target, begun.device)
    here = (JOURNAL_SCHEMA, workload.hash, header["target"], device)
    if there != here:
        raise DeviceMismatchError(
            f"{journal.path} was begun on {begun.device} for {begun.target} (journal schema {begun.schema}); this is "
            f"{device} with {header['target']} (schema {JOURNAL_SCHEMA}). Replay it with record=replay in a fresh "
            "results directory, or give this run a name with run=NAME."
        )
