"""Config -> objects, by name -> factory dicts. The only module that knows every package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from colt_pipeline import stack
from colt_pipeline.config import Config
from colt_pipeline.errors import ConfigError, DeviceMismatchError, RecordingError
from colt_pipeline.events import Started
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.client import Client
from colt_pipeline.llm.embedded import EmbeddedClient
from colt_pipeline.llm.proposer import Proposer
from colt_pipeline.runs.journal import Journal
from colt_pipeline.runs.rundir import RunDir
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.search.state import State
from colt_pipeline.search.world import World

stack.require()  # before TVM is imported: a wrong tvm-ffi would crash the process

from colt_pipeline.evaluation.cost_model import CostModel  # noqa: E402
from colt_pipeline.evaluation.devices import Device, cpu_target, host_cpu  # noqa: E402
from colt_pipeline.evaluation.evaluator import Evaluator  # noqa: E402
from colt_pipeline.evaluation.ledger import SCHEMA, Header, Ledger, read_header  # noqa: E402
from colt_pipeline.evaluation.measure import LocalMeasurer, Measurer  # noqa: E402
from colt_pipeline.space import Program, Space  # noqa: E402
from colt_pipeline.workloads import Workload, build  # noqa: E402

JOURNAL_SCHEMA = 1

CLIENTS: dict[str, Callable[[], Client]] = {"embedded": EmbeddedClient}
"""Provider name -> client."""


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
    evaluator: Evaluator
    target: dict[str, Any]


@contextmanager
def assemble(
    config: Config, connect_measurer: Callable[[Workload, dict[str, Any], Config], Measurer] | None = None
) -> Iterator[Job]:
    """The objects of one run, released at the end; `connect_measurer` replaces the local measurer (tests do so).

    Raises:
        ColtError: configuration, recordings or run directory do not allow the run.
    """
    _supported(config)
    workload = build(config.workload.name, config.workload.shape)
    replay = config.record.mode == "replay"
    recording, header = _recorded(config, workload) if replay else _recordable(config, workload)
    rundir = RunDir(Path(config.results) / "runs" / config.experiment / config.run, config.identity())
    with ExitStack() as cleanup:
        journal = Journal(rundir.journal)
        cleanup.callback(journal.close)
        _same_world(journal, workload, header)
        if config.record.mode == "all" and not journal.events:
            _set_aside(recording)
        watch = Stopwatch()
        connect = None if replay else lambda provider: CLIENTS[provider]()
        cassette = Cassette(recording / "llm.jsonl", connect, watch)
        cleanup.callback(cassette.close)
        target = header["target"]

        def measurer() -> Measurer:
            if connect_measurer is not None:
                return connect_measurer(workload, target, config)
            return LocalMeasurer(workload, target, config.measure)

        ledger = Ledger(recording / "measurements.jsonl", header, replay)
        cleanup.callback(ledger.close)
        device_directory = _device_directory(config, Device(header["device"]))
        evaluator = Evaluator(
            workload, ledger, header, None if replay else measurer, device_directory, config.record.mode == "all"
        )
        cleanup.callback(evaluator.close)
        space = Space(workload.module, target)

        def start() -> Started:
            return Started(
                schema=JOURNAL_SCHEMA,
                workload=workload.name,
                workload_hash=workload.hash,
                target=target,
                device=Device(header["device"]).slug,
                measurement="measured",
                baseline_secs=evaluator.baseline_secs(),
            )

        models = config.model_specs
        world = World(
            settings=config.search,
            models=models,
            seed=config.seed,
            budget=config.samples,
            target=f"CPU through LLVM, mcpu {target['mcpu']}, {target['num-cores']} cores",
            start=start,
            space=space,
            cost_model=CostModel(space, config.search.warmup_samples),
            evaluator=evaluator,
            proposer=Proposer(cassette, vars(config.llm)),
            watch=watch,
        )
        state = State(models, config.search.branching, config.search.max_failures)
        yield Job(config, workload, rundir, journal, state, world, cassette, evaluator, target)


def _supported(config: Config) -> None:
    if config.target.kind != "llvm":
        raise ConfigError(
            f"target={config.target.name} (kind {config.target.kind}) cannot be measured yet; use target=cpu"
        )
    for model in config.model_specs:
        if model.provider not in CLIENTS:
            raise ConfigError(
                f"models.{model.name}.provider={model.provider} is unknown; choose one of: {', '.join(CLIENTS)}"
            )


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


def _device_directory(config: Config, device: Device) -> Path:
    return Path(config.results) / "recordings" / device.slug


def _recorded(config: Config, workload: Workload) -> tuple[Path, dict[str, Any]]:
    """Directory and header of the one recording of this run, on whichever device it was made."""
    root = Path(config.results) / "recordings"
    name = f"{config.experiment}/{config.run}"
    if not root.is_dir():
        raise RecordingError(f"there is no recordings directory {root}; check results={config.results}")
    found = sorted(p.parent for p in root.glob(f"*/{name}/measurements.jsonl"))
    if len(found) != 1:
        devices = ", ".join(p.relative_to(root).parts[0] for p in found) or "none"
        raise RecordingError(
            f"replay of {name} needs its recording on one device below {root}; found: {devices}. "
            "Record it with record=missing, or remove all but one."
        )
    header = read_header(found[0] / "measurements.jsonl")
    if header is None or header["workload_hash"] != workload.hash:
        recorded = "nothing" if header is None else f"{header['workload']} {header['workload_hash'][:12]}"
        raise RecordingError(f"{found[0]} recorded {recorded}; this run tunes {workload.name} {workload.hash[:12]}")
    return found[0], header


def _recordable(config: Config, workload: Workload) -> tuple[Path, dict[str, Any]]:
    """Directory and header of the recording that this machine would make of this run."""
    device = host_cpu()
    header = {
        "schema": SCHEMA,
        "workload": workload.name,
        "workload_hash": workload.hash,
        "target": cpu_target(device, config.target.cores, config.target.mcpu),
        "device": device.facts,
        "evaluator": OmegaConf.to_container(OmegaConf.structured(config.measure)),
    }
    return _device_directory(config, device) / config.experiment / config.run, header


def _set_aside(recording: Path) -> None:
    """Keep what was recorded before under another name, so that everything is asked and measured anew."""
    for name in ("llm.jsonl", "measurements.jsonl"):
        path = recording / name
        if path.exists():
            free = next(n for n in count(1) if not (recording / f"{name}.{n}").exists())
            path.rename(recording / f"{name}.{free}")
