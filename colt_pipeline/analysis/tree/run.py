"""A run's search tree, read from its directory without TVM; the run may still be in progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from colt_pipeline.analysis.tree.decisions import Change, changes
from colt_pipeline.config.schema import SearchConfig, SpaceConfig, model_specs
from colt_pipeline.config.spaces import recorded_space
from colt_pipeline.errors import RunDirError
from colt_pipeline.records import LIMIT, DraftSource, ModelSpec
from colt_pipeline.runs.events import Call, Draft, Drafted, Event, Measured, Planted, Sample, Started, Stepped
from colt_pipeline.runs.journal import check_models, check_traces, read_events
from colt_pipeline.runs.layout import CONFIG, JOURNAL, SUMMARY
from colt_pipeline.runs.rundir import read_config
from colt_pipeline.runs.summary import read_summary
from colt_pipeline.search import outcome
from colt_pipeline.search.state import State
from colt_pipeline.search.tree import ROOT, Node
from colt_pipeline.serialization import Count, as_recorded, typed


@dataclass(frozen=True)
class Run:
    """The contents of a run directory so far."""

    path: Path
    config: Mapping[str, Any]
    """The resolved configuration, as in config.yaml."""
    models: tuple[ModelSpec, ...]
    events: tuple[Event, ...]
    state: State
    """The fold of `events`."""
    started: Started
    space: SpaceConfig
    gflops: float | None
    """GFLOP/s of the best program; None before the run has finished."""
    confirmed_secs: float | None = None
    """Latency of the confirmed winner; None if nothing was confirmed, or the run has not ended."""
    confirmed_program: str | None = None
    """Content key of the confirmed winner."""
    stopped_by_limit: bool = False
    """Whether it ended at a limit of time, cost or TVM's trials, and goes on if that is raised."""

    @property
    def largest(self) -> str:
        """The model with the most parameters (the first one if several are equal); "" without models."""
        return max(self.models, key=lambda m: m.parameters_b).name if self.models else ""


class _Target(TypedDict):
    name: str


class _Shown(TypedDict):
    """What is shown of a configuration, beside its search and models."""

    seed: int
    samples: Count
    model_set: str
    target: _Target


@dataclass(frozen=True)
class TreeNode:
    """A program made by a search, with its origin."""

    id: int
    """As in the search: the root is 0, others are numbered in order of creation. Pruned nodes, which the search does
    not number, are -1, -2, ... in order of creation."""
    parent: int | None
    depth: int
    model: str | None
    """The model that expands it (or, if pruned, would have); None for the root."""
    call: Call | None
    """The call that made it; None for the root and the initial programs."""
    visits: int
    value: float
    """W, the sum of backed-up rewards."""
    pruned: bool
    replaces: int | None
    """If a course alteration made this program, the node that it pruned."""
    program: str | None = None
    """Content key; None for the root."""
    changes: tuple[Change, ...] = ()
    """How its schedule's decisions differ from its parent's; all decisions for an initial program."""
    score: float | None = None
    """Predicted when it was created."""
    parent_score: float | None = None
    """Its parent's score, under the same cost model; None for the initial programs, whose parent has none."""
    reward: float | None = None
    """Predicted score of the rollout's final program."""
    untrained: bool = False
    """Whether the cost model had too few samples to learn, so that its scores are noise."""
    latency_secs: float | None = None
    error: str | None = None
    """Kind of error of the measurement."""
    source: DraftSource | None = None
    """How it was drawn without a call; None for programs of calls, initial ones and the root."""

    @property
    def made_by(self) -> str | None:
        return self.call.model if self.call else None

    @property
    def transformations(self) -> tuple[str, ...]:
        """As proposed."""
        return self.call.transformations if self.call else ()

    @property
    def course_alteration(self) -> bool:
        """Whether the largest model made it in place of a pruned one."""
        return self.replaces is not None


def read_run(path: Path) -> Run:
    """Read a run directory.

    Raises:
        RunDirError: it is not a run directory, its configuration is invalid, or nothing has happened yet.
        JournalError: the journal is corrupt, was written by another version, names models of another run, or has a
            trace that no rule or mutator makes.
    """
    if not (path / JOURNAL).exists():
        raise RunDirError(f"{path} is not a run directory: it has no {JOURNAL}. {_way_out(path)}")
    config = read_config(path / CONFIG)
    try:
        names = config["model_sets"][config["model_set"]]
        specs = model_specs(config["search"]["proposer"], {name: config["models"][name] for name in names})
        models = tuple(typed(ModelSpec, vars(spec)) for spec in specs)
        state = State(models, typed(SearchConfig, vars(as_recorded(SearchConfig, config["search"]))))
        typed(_Shown, config)
        space = recorded_space(config)
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirError(f"{path / CONFIG} is not the configuration of a run ({error}); restore it") from error
    summary = read_summary(path / SUMMARY) if (path / SUMMARY).exists() else {}
    events = tuple(read_events(path / JOURNAL))
    check_traces(path / JOURNAL, events)
    check_models(path / JOURNAL, events, [model.name for model in models])
    for event in events:
        state.apply(event)
    if state.started is None:
        raise RunDirError(f"{path}: nothing has happened yet; a run begins with its measured baseline, try again later")
    counted = (("samples", state.spent), ("steps", state.steps))  # a journal that lost lines has fewer
    measured = (("baseline_secs", state.started.baseline_secs), ("best_secs", state.best_secs or None))
    for name, known in (*measured, *counted):
        if summary.get(name, known) != known:
            raise RunDirError(
                f"{path}: {JOURNAL} gives {name}={known}, but {SUMMARY} has {summary[name]}; the same command as for "
                "the run, with record=replay, tells which is right"
            )
    return Run(
        path,
        config,
        models,
        events,
        state,
        state.started,
        space,
        gflops=summary.get("gflops"),
        confirmed_secs=summary.get("confirmed_secs"),
        confirmed_program=summary.get("confirmed_program"),
        stopped_by_limit=summary.get("stopped") == LIMIT,
    )


def tree_nodes(run: Run) -> list[TreeNode]:
    """All programs in order of creation, each pruned one before its replacement."""
    samples = {sample.program: sample for sample in run.state.samples}
    nodes: list[TreeNode] = []
    measured = pruned = 0

    def add(node: Node, call: Call | None = None, replaces: int | None = None) -> None:
        search = run.config["search"]  # a pretrained model is trained from the start
        untrained = search["cost_model"] == "xgb" and measured < search["warmup_samples"]
        nodes.append(_tree_node(run, node, call, replaces, untrained, samples))

    grown = iter(run.state.tree.nodes)  # numbered in order of creation
    add(next(grown))
    for event in run.events:
        match event:
            case Planted() | Drafted():
                for _ in event.children:
                    add(next(grown))
            case Stepped():
                pruned += event.pruned is not None
                if event.pruned is not None:
                    call, record, depth = event.calls[0], event.pruned, run.state.tree.nodes[event.parent].depth + 1
                    add(Node(-pruned, event.parent, depth, record, record.model, call.model), call)
                if event.child is not None:
                    # none for a first child that was drawn
                    maker = next((call for call in event.calls if call.model == event.made_by), None)
                    add(next(grown), maker, -pruned if event.pruned is not None else None)
            case Measured():
                measured += len(event.samples)
    return nodes


def best_path(run: Run) -> list[int]:
    """Node ids from the root to the best measured program; empty if there is none yet or the search has no tree."""
    best, tree = run.state.best, run.state.tree
    if best is None:
        return []
    found = (n for n in tree.nodes if n.record is not None and n.record.program == best.program)
    return [ancestor.id for node in found for ancestor in tree.path(node.id)][::-1]


def improvements(run: Run) -> dict[str | None, list[float]]:
    """Model -> for each of its programs that became the new best, the factor by which it beat the previous best.

    The first one beats the unoptimized program. The key None is for programs that no model made, such as the initial
    ones.
    """
    made_by = {n.record.program: n.made_by for n in run.state.tree.nodes if n.record is not None}
    found: dict[str | None, list[float]] = {None: [], **{m.name: [] for m in run.models}}
    best_secs = run.started.baseline_secs
    for sample in run.state.samples:
        if sample.latency_secs is not None and sample.latency_secs < best_secs:
            found[made_by.get(sample.program)].append(best_secs / sample.latency_secs)
            best_secs = sample.latency_secs
    return found


def model_rows(run: Run) -> list[dict[str, Any]]:
    """One row per model: the columns of `outcome.calls`, new_bests (a count) and best_gain (largest factor or None)."""
    gains = improvements(run)
    return [
        {**row, "new_bests": len(gains[row["model"]]), "best_gain": max(gains[row["model"]], default=None)}
        for row in outcome.calls(run.state, run.models, run.largest, {}, {})
    ]


def _tree_node(
    run: Run, node: Node, call: Call | None, replaces: int | None, untrained: bool, samples: Mapping[str, Sample]
) -> TreeNode:
    record, above = node.record, None if node.parent is None else run.state.tree.nodes[node.parent].record
    facts: dict[str, Any] = {
        "id": node.id,
        "parent": node.parent,
        "depth": node.depth,
        "model": node.model,
        "call": call,
        "visits": node.visits,
        "value": node.total(run.state.best_secs),
        "pruned": node.id < ROOT,
        "replaces": replaces,
    }
    if record is None:
        return TreeNode(**facts, latency_secs=run.started.baseline_secs)
    sample = samples.get(record.program)
    return TreeNode(
        **facts,
        program=record.program,
        changes=changes(above.trace if above else None, record.trace),
        score=record.score,
        parent_score=record.parent_score if above else None,
        reward=record.reward,
        untrained=untrained,
        latency_secs=sample.latency_secs if sample else None,
        error=sample.error if sample else None,
        source=record.source if isinstance(record, Draft) else None,
    )


def _way_out(path: Path) -> str:
    """Suggest run directories below `path`, or show what one looks like."""
    below = sorted(journal.parent for journal in path.rglob(JOURNAL))
    if not below:
        return "Name one such as results/runs/<experiment>/<workload>/<run>."
    if len(below) == 1:
        return f"Name the one below it: {below[0]}."
    return f"Name one of the {len(below)} below it, such as {below[0]}."
