"""Config -> objects, through dicts of name -> factory. The only module that knows every package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from colt_pipeline import registry, stack
from colt_pipeline.config.plugins import import_plugins
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import DeviceMismatchError, JournalError, RecordingError, SpaceError
from colt_pipeline.job import Job
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.client import Client
from colt_pipeline.llm.embedded import EmbeddedClient
from colt_pipeline.llm.proposer import Proposer
from colt_pipeline.llm.random_proposer import RandomProposer
from colt_pipeline.llm.retries import live_caller
from colt_pipeline.records import EMBEDDED
from colt_pipeline.runs.budget import Budget
from colt_pipeline.runs.clock import Clock
from colt_pipeline.runs.costs import configured_prices
from colt_pipeline.runs.drafted import DraftRecord
from colt_pipeline.runs.events import Finished, Measured, Started
from colt_pipeline.runs.journal import Journal, check_models, check_traces
from colt_pipeline.runs.layout import (
    ANSWERS,
    CANDIDATES,
    CLOCK,
    DRAFTS,
    INPUTS,
    MEASUREMENTS,
    PROGRAM,
    SPENDING,
    START,
    checks_of,
    recordings_in,
    run_directory,
    set_aside,
)
from colt_pipeline.runs.recorded import Access
from colt_pipeline.runs.rundir import RunDir, write_bytes
from colt_pipeline.runs.started_from import Taken, read_start, write_start
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.search.in_flight import InFlight
from colt_pipeline.search.state import State
from colt_pipeline.search.world import CostModelLike, ProposerLike, World
from colt_pipeline.serialization import written

stack.require()  # before TVM is imported: a wrong tvm-ffi would crash the process

from colt_pipeline.measurement.backend import Recording, find_recording  # noqa: E402
from colt_pipeline.measurement.devices import Device, describe, hardware  # noqa: E402
from colt_pipeline.measurement.earlier import MOST, Tuned, best_of_earlier  # noqa: E402
from colt_pipeline.measurement.evaluator import Evaluator, Reuse  # noqa: E402
from colt_pipeline.measurement.ledger import Header, Ledger  # noqa: E402
from colt_pipeline.measurement.measurer import MakeMeasurer  # noqa: E402
from colt_pipeline.prediction.adapted import AdaptedModel  # noqa: E402
from colt_pipeline.prediction.cost_model import CostModel  # noqa: E402
from colt_pipeline.prediction.evolution import Evolution, TvmEvolution  # noqa: E402
from colt_pipeline.prediction.experience_files import experience_digest, read_experience  # noqa: E402
from colt_pipeline.prediction.pretrained import Experience, PretrainedModel  # noqa: E402
from colt_pipeline.space import Program, Space  # noqa: E402
from colt_pipeline.workloads.catalogue import build, recipe  # noqa: E402
from colt_pipeline.workloads.checks import caution  # noqa: E402
from colt_pipeline.workloads.workload import Workload  # noqa: E402

JOURNAL_SCHEMA = 1


class _Closes(Protocol):
    def close(self) -> object: ...


C = TypeVar("C", bound=_Closes)


def _client(config: Config, budget: Budget, provider: str) -> Client:
    """The client of a provider, made at its first question without a recorded answer."""
    if provider == EMBEDDED:
        return EmbeddedClient()
    return live_caller(provider, config.providers[provider], budget)


PROPOSERS: dict[str, Callable[[Config, Cassette], ProposerLike]] = {
    "llm": lambda config, cassette: Proposer(cassette, config.llm.sampling, config.prompt, config.seed),
    "uniform": lambda config, cassette: RandomProposer("even"),
    "tvm": lambda config, cassette: RandomProposer("tvm"),
    "none": lambda config, cassette: RandomProposer("tvm"),
}
"""``search.proposer`` -> proposer."""


COST_MODELS: dict[str, Callable[[Config, Space, Sequence[Experience], Stopwatch], CostModelLike[Program]]] = {
    "xgb": lambda config, space, _, stopwatch: CostModel(space, config.search.warmup_samples, stopwatch),
    "adapted": lambda config, space, others, stopwatch: AdaptedModel(
        space, config.search.warmup_samples, others, stopwatch
    ),
    "pretrained": lambda config, space, others, stopwatch: PretrainedModel(
        space, config.search.warmup_samples, others, stopwatch
    ),
}
"""``search.cost_model`` -> cost model."""


@contextmanager
def assemble(
    config: Config, make_measurer: MakeMeasurer | None = None, peers: Sequence[State] = (), any_space: bool = False
) -> Iterator[Job]:
    """The objects of one run, released at the end.

    Args:
        config: the run.
        make_measurer: replaces the backend's, for tests.
        peers: see `State`.
        any_space: whether a user's own kernel is accepted if its design space leaves nothing to choose.

    Raises:
        ColtError: configuration, recordings or run directory do not allow the run.
    """
    import_plugins(config.plugins, Path.cwd())  # in this process, too
    workload = build(**vars(config.workload))
    others = _experience(config, workload)
    recording = find_recording(config, workload, experience_digest(others) if others else None)
    target, device = recording.header["target"], Device(recording.header["device"])
    if workload.is_own and not any_space:
        _check_choice(workload, target, config.space.additions)
    rundir = RunDir(run_directory(config.results, config.experiment, config.run), config.identity())
    stopwatch = Stopwatch()
    with ExitStack() as cleanup:

        def opened(thing: C) -> C:
            return cleanup.enter_context(closing(thing))

        replay = config.record.mode == "replay"
        journal = opened(Journal(rundir.journal, replay))
        check_traces(journal.path, journal.recorded)
        check_models(journal.path, journal.recorded, [model.name for model in config.model_specs])
        _same_world(journal, workload, recording.header)
        _keep_program(rundir, workload)
        if not replay and not any(isinstance(event, Finished) for event in journal.recorded):
            rundir.reopen()
        if config.record.mode == "all" and not journal.recorded:
            set_aside(recording.directory)
        ledger = opened(_ledger(recording))
        _same_latencies(journal, ledger, workload)
        budget = opened(_budget(config, recording, device))
        clock = None if config.minutes is None else opened(_clock(recording, config.minutes))
        cassette = opened(_cassette(config, recording, budget, stopwatch))
        evaluator = opened(_evaluator(config, workload, recording, ledger, make_measurer))
        # As recorded; only what was recorded in TVM's space before there were drafts depends on it.
        first_traces = not config.space.additions and config.search.drafts is None
        space = Space(workload.module, target, config.space.additions, first_traces)
        begun = bool(journal.recorded) or evaluator.timed_secs is not None
        start_from = _start_from(config, workload, recording, begun, space)
        cost_model = _cost_model(config, space, others, stopwatch)
        evolution = None
        if not config.search.grows_tree:
            evolution = opened(_evolution(config, space, recording, cost_model, stopwatch))

        def start() -> Started:
            return Started(
                schema=JOURNAL_SCHEMA,
                workload=workload.name,
                workload_hash=workload.hash,
                target=target,
                device=device.slug,
                measurement=recording.header["measurement"],
                baseline_secs=evaluator.baseline_secs(space.baseline),
            )

        drafts = None if config.search.drafts is None else opened(_drafts(config, recording))
        models = config.model_specs
        proposer = {**PROPOSERS, **registry.PROPOSERS}[config.search.proposer](config, cassette)
        in_flight = None
        if isinstance(proposer, Proposer) and config.llm.concurrency > 1:
            servers = [config.providers[m.provider] for m in models if m.provider in config.providers]
            disturbs = recording.header["measurement"] == "measured" and any(s.is_here for s in servers)
            in_flight = cleanup.enter_context(InFlight(proposer, config.llm.concurrency, disturbs))
        world = World(
            settings=config.search,
            models=models,
            seed=config.seed,
            samples=config.samples,
            target=describe(target, device.facts),
            hardware=hardware(target, config.target.l2_kib),
            start=start,
            space=space,
            cost_model=cost_model,
            evaluator=evaluator,
            proposer=proposer,
            in_flight=in_flight,
            stopwatch=stopwatch,
            evolution=evolution,
            drafts=drafts,
            start_from=start_from,
        )
        yield Job(
            config=config,
            workload=workload,
            rundir=rundir,
            journal=journal,
            state=State(models, config.search, peers),
            world=world,
            cassette=cassette,
            budget=budget,
            clock=clock,
            prices=configured_prices(config),
            evolution=evolution,
            evaluator=evaluator,
            target=target,
            source=recording.description,
        )


def _check_choice(workload: Workload, target: dict[str, Any], additions: Sequence[str]) -> None:
    if not Space(workload.module, target, additions).tunable:
        raise SpaceError(
            f"there is nothing to tune in {workload.name}: no rule leaves a decision about this program, as for "
            "elementwise, transposing and gathering ones, and for blocks that are scheduled already or hide loops; it "
            "takes a reduction in a T.sblock whose axes are T.axis.spatial and T.axis.reduce"
        )
    if note := caution(workload.main):
        print(f"note: {workload.name}: {note}", file=sys.stderr, flush=True)


def _cost_model(
    config: Config, space: Space, others: Sequence[Experience], stopwatch: Stopwatch
) -> CostModelLike[Program]:
    name = config.search.cost_model
    if name in registry.COST_MODELS:
        return registry.COST_MODELS[name](config, space, stopwatch)
    return COST_MODELS[name](config, space, others, stopwatch)


def _keep_program(rundir: RunDir, workload: Workload) -> None:
    """Copy a user's own kernel into its run, which does not depend on the user's file afterwards."""
    if not workload.is_own:
        return
    inputs = workload.inputs_file
    if inputs is not None:
        write_bytes(rundir.path / INPUTS, inputs.read_bytes())
    rundir.write_json(PROGRAM, {**recipe(workload), "inputs": inputs and INPUTS})


def _experience(config: Config, workload: Workload) -> list[Experience]:
    """What the run's cost model is trained on before the run."""
    # Features of GPU programs have little in common with those of CPU programs.
    if config.search.cost_model not in ("pretrained", "adapted") or config.target.kind != "llvm":
        return []
    return read_experience(Path(config.pretraining), workload.hash)


def _budget(config: Config, recording: Recording, device: Device) -> Budget:
    sweep = recordings_in(config.results) / device.slug / config.experiment
    checks = checks_of(config.results, config.experiment)
    return Budget(recording.directory / SPENDING, config.budget, configured_prices(config), sweep, [checks])


def _cassette(config: Config, recording: Recording, budget: Budget, stopwatch: Stopwatch) -> Cassette:
    make_client = None if recording.backend is None else lambda provider: _client(config, budget, provider)
    return Cassette(recording.directory / ANSWERS, make_client, stopwatch)


def _access(recording: Recording) -> Access:
    return "replay" if recording.backend is None else "append"


def _clock(recording: Recording, minutes: float) -> Clock:
    return Clock(recording.directory / CLOCK, minutes, _access(recording))


def _ledger(recording: Recording) -> Ledger:
    return Ledger(recording.directory / MEASUREMENTS, recording.ledger_header, _access(recording))


def _evaluator(
    config: Config, workload: Workload, recording: Recording, ledger: Ledger, make_measurer: MakeMeasurer | None
) -> Evaluator:
    backend = recording.backend
    make = None if backend is None else partial(make_measurer or backend.make_measurer, workload)
    device_directory = recordings_in(config.results) / Device(recording.header["device"]).slug
    reuse: Reuse = "this_run" if config.record.mode == "all" else "any_run"
    return Evaluator(workload, ledger, recording.header, make, device_directory, reuse)


def _evolution(
    config: Config, space: Space, recording: Recording, cost_model: CostModelLike[Program], stopwatch: Stopwatch
) -> Evolution:
    """The source of programs in an evolutionary search."""
    search, evolution = config.search, config.search.evolution
    assert evolution is not None
    settings = written(evolution) | {"warmup_samples": search.warmup_samples, "budget": config.samples}

    def make_strategy() -> TvmEvolution:
        own = cost_model if isinstance(cost_model, PretrainedModel) else None
        return TvmEvolution(space, evolution, search.warmup_samples, config.samples, own)

    path, make = recording.directory / CANDIDATES, None if recording.backend is None else make_strategy
    return Evolution(path, space, settings | {"seed": config.seed}, make, stopwatch)


def _start_from(
    config: Config, workload: Workload, recording: Recording, begun: bool, space: Space
) -> tuple[Taken, ...]:
    """The programs of earlier runs with which the search begins: as recorded, or else, once, those in ``start_from``.

    A run that has begun without any goes on without: with others it would be another run.
    """
    path, results = recording.directory / START, config.start_from
    programs = read_start(path)
    if programs is None and results is not None:
        if begun or recording.backend is None:
            _say(
                config,
                f"start_from={results} is not used, because this run has begun without; choose another name "
                "for a new one with run=NAME",
            )
        else:
            programs = _earlier(config, workload, recording, Path(results))
            write_start(path, programs)
    for each in programs or ():
        try:
            space.load(each.program, each.trace)
        except SpaceError as error:
            raise RecordingError(f"{path}: {error}; restore the file") from error
    return tuple(programs or ())


def _earlier(config: Config, workload: Workload, recording: Recording, results: Path) -> list[Taken]:
    """The best programs in another results directory."""
    target, device = recording.header["target"], Device(recording.header["device"]).slug
    tuned = Tuned(workload.hash, device, target, config.space.additions)
    # In a space of its own: a space remembers what it loads, and this run's must be as in a replay.
    space = Space(workload.module, target, config.space.additions)
    found = best_of_earlier(results, tuned, space.load, min(MOST, config.search.initial_programs))
    if found:
        best = f"the best of {found[0].source} with {found[0].latency_secs * 1e3:.4g} ms"
        print(f"{config.run}  starts from {len(found)} programs in {results}, {best}", file=sys.stderr, flush=True)
    else:
        _say(
            config,
            f"start_from={results} contains no program of {workload.name} with these sizes that was measured "
            f"on {device} for the same target in the same design space; the search begins from random ones",
        )
    return found


def _say(config: Config, what: str) -> None:
    print(f"note: {config.run}: {what}", file=sys.stderr, flush=True)


def _drafts(config: Config, recording: Recording) -> DraftRecord:
    settings = {"search": written(config.search), "seed": config.seed}
    return DraftRecord(recording.directory / DRAFTS, settings, _access(recording))


def _same_world(journal: Journal, workload: Workload, header: Header) -> None:
    """Check that a journal is resumed with the format, workload, target and device it began with."""
    begun = next((event for event in journal.recorded if isinstance(event, Started)), None)
    if begun is None:
        return
    device = Device(header["device"]).slug
    there = (begun.schema, begun.workload_hash, begun.target, begun.device)
    here = (JOURNAL_SCHEMA, workload.hash, header["target"], device)
    if there != here:
        raise DeviceMismatchError(
            f"{journal.path} was started on {begun.device} for {begun.target} (journal schema {begun.schema}); this is "
            f"{device} with {header['target']} (schema {JOURNAL_SCHEMA}). Replay it with record=replay in a fresh "
            "results directory, or choose another name for this run with run=NAME."
        )


def _same_latencies(journal: Journal, ledger: Ledger, workload: Workload) -> None:
    """Check that the journal's latencies are those of the recording, because anybody can edit a journal."""
    for line, event in enumerate(journal.recorded, start=1):
        told: list[tuple[str, float | None, str | None]] = []
        if isinstance(event, Started):
            told = [(workload.hash, event.baseline_secs, None)]
        elif isinstance(event, Measured):
            told = [(sample.program, sample.latency_secs, sample.error) for sample in event.samples]
        for program, latency, error in told:
            known = ledger.get(program)
            if known is None or (known.latency_secs, known.error) != (latency, error):
                there = "nothing" if known is None else known.error or f"{known.latency_secs} s"
                raise JournalError(
                    f"{journal.path}, line {line}: program {program[:12]} has {error or f'{latency} s'}, but "
                    f"{ledger.path} holds {there}. Nothing was changed; restore the one that is wrong."
                )
