"""Config -> objects, by name -> factory dicts. The only module that knows every package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from colt_pipeline import stack
from colt_pipeline.config import Config
from colt_pipeline.errors import ConfigError, DeviceError, DeviceMismatchError, RecordingError
from colt_pipeline.events import Started
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.client import Client
from colt_pipeline.llm.embedded import EmbeddedClient
from colt_pipeline.llm.proposer import Proposer
from colt_pipeline.llm.random_proposer import RandomProposer
from colt_pipeline.runs.journal import Journal
from colt_pipeline.runs.rundir import RunDir
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.search.state import State
from colt_pipeline.search.world import CostModelLike, ProposerLike, World

stack.require()  # before TVM is imported: a wrong tvm-ffi would crash the process

from colt_pipeline.evaluation.breeder import Breeder, Evolution  # noqa: E402
from colt_pipeline.evaluation.connect import Backend, choose  # noqa: E402
from colt_pipeline.evaluation.cost_model import CostModel  # noqa: E402
from colt_pipeline.evaluation.devices import Device, describe, hardware  # noqa: E402
from colt_pipeline.evaluation.evaluator import Evaluator  # noqa: E402
from colt_pipeline.evaluation.ledger import Header, Ledger, read_header  # noqa: E402
from colt_pipeline.evaluation.measure import Measurer  # noqa: E402
from colt_pipeline.evaluation.pretrained import PretrainedModel, read_experience  # noqa: E402
from colt_pipeline.space import Program, Space  # noqa: E402
from colt_pipeline.workloads import Workload, build  # noqa: E402

JOURNAL_SCHEMA = 1

CLIENTS: dict[str, Callable[[], Client]] = {"embedded": EmbeddedClient}
"""Provider name -> client."""

PROPOSERS: dict[str, Callable[[Config, Cassette], ProposerLike]] = {
    "llm": lambda config, cassette: Proposer(cassette, config.llm.sampling, config.prompt, config.seed),
    "uniform": lambda config, cassette: RandomProposer(weighted=False),
    "tvm": lambda config, cassette: RandomProposer(weighted=True),
    "none": lambda config, cassette: RandomProposer(weighted=True),
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


@dataclass(frozen=True)
class Job:
    """Everything one run needs."""

    config: Config
    workload: Workload
    rundir: RunDir
    journal: Journal
    state: State
    world: World[Program]
    cassette: Cassette
    breeder: Breeder | None
    evaluator: Evaluator
    target: dict[str, Any]
    source: str
    """Where latencies come from, in words."""

    @property
    def asked(self) -> int:
        """Answers of LLMs, and batches of TVM's strategy, that came live."""
        return self.cassette.asked + (self.breeder.asked if self.breeder else 0)


@dataclass(frozen=True)
class _Place:
    """Where a run's recording lies, and who adds to it."""

    directory: Path
    header: dict[str, Any]
    backend: Backend | None
    """None: nobody, the recording is replayed."""
    words: str


@contextmanager
def assemble(config: Config, connect_measurer: Callable[[Workload], Measurer] | None = None) -> Iterator[Job]:
    """The objects of one run, released at the end; `connect_measurer` replaces the backend's (tests do so).

    Raises:
        ColtError: configuration, recordings or run directory do not allow the run.
    """
    workload = build(config.workload.name, config.workload.shape)
    place = _place(config, workload)
    header, target, backend = place.header, place.header["target"], place.backend
    rundir = RunDir(Path(config.results) / "runs" / config.experiment / config.run, config.identity())
    with ExitStack() as cleanup:
        journal = Journal(rundir.journal)
        cleanup.callback(journal.close)
        _same_world(journal, workload, header)
        if config.record.mode == "all" and not journal.events:
            _set_aside(place.directory)
        watch = Stopwatch()
        connect = None if backend is None else lambda provider: CLIENTS[provider]()
        cassette = Cassette(place.directory / "llm.jsonl", connect, watch)
        cleanup.callback(cassette.close)

        def measurer() -> Measurer:
            assert backend is not None
            return connect_measurer(workload) if connect_measurer else backend.connect(workload)

        ledger = Ledger(place.directory / "measurements.jsonl", header, replay=backend is None)
        cleanup.callback(ledger.close)
        device = Device(header["device"])
        evaluator = Evaluator(
            workload,
            ledger,
            header,
            None if backend is None else measurer,
            _recordings(config) / device.slug,
            config.record.mode == "all",
        )
        cleanup.callback(evaluator.close)
        space = Space(workload.module, target)
        breeder = _breeder(config, space, place, watch)
        if breeder is not None:
            cleanup.callback(breeder.close)

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
            budget=config.samples,
            target=describe(target, device.facts),
            hardware=hardware(target, config.target.l2_kib),
            start=start,
            space=space,
            cost_model=COST_MODELS[config.search.cost_model](config, workload, space),
            evaluator=evaluator,
            proposer=PROPOSERS[config.search.proposer](config, cassette),
            watch=watch,
            breeder=breeder,
        )
        state = State(models, config.search)
        yield Job(config, workload, rundir, journal, state, world, cassette, breeder, evaluator, target, place.words)


def _breeder(config: Config, space: Space, place: _Place, watch: Stopwatch) -> Breeder | None:
    """Who makes the programs of an evolutionary search; None for a tree search."""
    search = config.search
    evolution = search.evolution
    if search.strategy != "evolutionary" or evolution is None:
        return None
    settings = vars(evolution) | {"warmup_samples": search.warmup_samples, "budget": config.samples}

    def connect() -> Evolution:
        return Evolution(space, evolution, search.warmup_samples, config.samples)

    path = place.directory / "candidates.jsonl"
    return Breeder(path, space, settings | {"seed": config.seed}, None if place.backend is None else connect, watch)


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


def _place(config: Config, workload: Workload) -> _Place:
    """The run's recording: the one there is, or the one that the first device at hand would make.

    Raises:
        RecordingError: a replay without a recording of this workload.
        DeviceError, ConfigError: no device gives latencies for the target.
    """
    recorded = _recorded(config, workload)
    if config.record.mode == "replay":
        if len(recorded) != 1:
            raise RecordingError(
                f"replay of {config.experiment}/{config.run} needs its recording on one device below "
                f"{_recordings(config)}; found: {', '.join(recorded) or 'none'}. "
                "Record it with record=missing, or remove all but one."
            )
        return _replayed(config, *recorded.popitem())
    fresh = config.record.mode == "all"
    try:
        name, backend, absent = choose(config, () if fresh else recorded)
    except (DeviceError, ConfigError):
        if config.device != "auto" or fresh or len(recorded) != 1:
            raise
        return _replayed(config, *recorded.popitem())
    if config.device == "auto" and not fresh and len(recorded) == 1 and backend.device.slug not in recorded:
        return _replayed(config, *recorded.popitem())
    slug, header = backend.device.slug, backend.header(workload, config.measure)
    words = f"device={name}: {slug}, latencies {backend.measurement}" + (f" ({absent})" if absent else "")
    return _Place(_directory(config, slug), header, backend, words)


def _replayed(config: Config, slug: str, header: dict[str, Any]) -> _Place:
    words = f"recorded ledger of {slug}, latencies {header['measurement']}; nothing is measured"
    return _Place(_directory(config, slug), header, None, words)


def _recordings(config: Config) -> Path:
    return Path(config.results) / "recordings"


def _directory(config: Config, slug: str) -> Path:
    return _recordings(config) / slug / config.experiment / config.run


def _recorded(config: Config, workload: Workload) -> dict[str, dict[str, Any]]:
    """Device slug -> header of each recording of this run.

    Raises:
        RecordingError: one of another workload or shape, or a replay without any recordings.
    """
    if config.record.mode == "replay" and not _recordings(config).is_dir():
        raise RecordingError(f"there is no recordings directory {_recordings(config)}; check results={config.results}")
    found = {}
    for path in sorted(_recordings(config).glob(f"*/{config.experiment}/{config.run}/measurements.jsonl")):
        header = read_header(path)
        if header is None:
            continue  # killed before the first line
        if header["workload_hash"] != workload.hash:
            raise RecordingError(
                f"{path} recorded {header['workload']} {header['workload_hash'][:12]}; this run tunes "
                f"{workload.name} {workload.hash[:12]}. Give it another name with run=NAME."
            )
        found[path.relative_to(_recordings(config)).parts[0]] = header
    return found


def _set_aside(recording: Path) -> None:
    """Keep what was recorded before under another name, so that everything is asked and measured anew."""
    for name in ("llm.jsonl", "candidates.jsonl", "measurements.jsonl"):
        path = recording / name
        if path.exists():
            free = next(n for n in count(1) if not (recording / f"{name}.{n}").exists())
            path.rename(recording / f"{name}.{free}")
