"""A run's tree in words, shared by the terminal and the page: pairs of a label and a text, one line each."""

from __future__ import annotations

from collections import Counter

from colt_pipeline.analysis.labels import backend_label, model_label, workload_title
from colt_pipeline.analysis.tree.decisions import Change
from colt_pipeline.analysis.tree.run import Run, TreeNode, best_path
from colt_pipeline.app import mark
from colt_pipeline.config.schema import AS_MANY_AS_FIT
from colt_pipeline.config.spaces import space_name, space_title
from colt_pipeline.records import DraftSource

Fact = tuple[str, str]

_DRAWS: dict[DraftSource | None, str] = {
    None: "a draw from the design spaces",
    "design": "a draw from the design spaces",
    "mutation": "a random mutation of its parent",
    "crossover": "a random crossover of its parent and another program",
}
NO_PATH = "There is no way to the best program: no sample is valid yet, or this search grows no tree."


def run_facts(run: Run) -> list[Fact]:
    """The run in numbers so far."""
    state, started, config = run.state, run.started, run.config
    failed = Counter(sample.error for sample in state.samples if sample.error)
    waiting = f", {len(state.pending)} wait" if state.pending else ""
    facts = [
        ("workload", _workload(started.workload)),
        ("target", f"{config['target']['name']} ({', '.join(f'{k}={v}' for k, v in started.target.items())})"),
        ("device", started.device),
        ("space", _space(run)),
        ("search", f"{config['search']['name']}, seed {config['seed']}"),
        ("model set", f"{config['model_set']} (models: {len(run.models)}; largest: {label(run, run.largest or None)})"),
        ("LLMs", backends(run)),
        ("latencies", started.measurement),
        ("samples", f"{samples_so_far(run)}{waiting}"),
        ("state", _state(run)),
        ("errors", ", ".join(f"{kind} {count}" for kind, count in sorted(failed.items())) or "none"),
        ("baseline", latency(run, started.baseline_secs)),
    ]
    if state.best is None or state.best.latency_secs is None:
        return [*facts, ("best", "no valid sample yet")]
    unit = "program" if state.counts_calls else "sample"
    where = f"{unit} {state.samples.index(state.best) + 1}" + "".join(f", node {id}" for id in best_path(run)[-1:])
    facts.append(("best", f"{latency(run, state.best.latency_secs)} ({where})"))
    facts.append(("speedup", f"{started.baseline_secs / state.best.latency_secs:.2f}x{mark(run.started.measurement)}"))
    if run.gflops is not None:
        facts.append(("throughput", f"{run.gflops:.1f} GFLOP/s{mark(run.started.measurement)}"))
    if run.confirmed_secs is not None:
        which = "the same program" if run.confirmed_program == state.best.program else "another program"
        facts.append(("confirmed", f"{latency(run, run.confirmed_secs)} ({which}, measured again in rounds)"))
    return facts


def samples_so_far(run: Run) -> str:
    """How much of the budget was spent, and of how much, unless the limit is one of time alone."""
    limit = run.config["samples"]
    return f"{run.state.spent}" + ("" if limit == AS_MANY_AS_FIT else f" of {limit}")


def end(run: Run) -> str:
    """Why the search is not complete, in brackets; "" if it is."""
    if run.state.finished:
        return ""
    return " (stopped at a limit)" if run.stopped_by_limit else " (unfinished)"


def _space(run: Run) -> str:
    return space_title(space_name(run.space.additions))


def _workload(name: str) -> str:
    title = workload_title(name)
    return title if title == name else f"{title} ({name})"


def _state(run: Run) -> str:
    if run.state.finished is not None:
        return f"finished ({run.state.finished})"
    return "stopped at a limit; a higher one continues it" if run.stopped_by_limit else "unfinished"


def caption(run: Run) -> str:
    """Where the numbers come from."""
    config = run.config
    return (
        f"{backends(run)}, {run.started.measurement} latency, {_space(run)}, search={config['search']['name']}, "
        f"model_set={config['model_set']}, seed {config['seed']}, {samples_so_far(run)} "
        f"samples{end(run)}, device {run.started.device}"
    )


def title(node: TreeNode) -> str:
    """The title of a node."""
    if node.parent is None:
        return "node 0: the unoptimized program"
    return f"node {node.id}, depth {node.depth}" + (" (pruned)" if node.pruned else "")


def edge_facts(run: Run, node: TreeNode, parent: TreeNode) -> list[Fact]:
    """Which model made `node` from `parent`, what changed, and the effect."""
    if node.call is None:
        made = [("made by", f"{_DRAWS[node.source]} (no model)")]
    else:
        how = "regular call" if node.replaces is None else f"course alteration in place of node {node.replaces}"
        made = [("made by", f"{label(run, node.made_by)}, {how}"), ("proposed", ", ".join(node.transformations))]
    before = "" if node.parent_score is None else f"{node.parent_score:.4f} → "
    said = "changed" if node.call or node.source not in (None, "design") else "decides"
    noise = " (noise: the cost model had not learned yet)" if node.untrained else ""
    return [
        *made,
        *((said, _change(change)) for change in node.changes),
        ("predicted", f"{before}{node.score:.4f}{noise}"),
        ("measured", _measured(run, node, parent)),
    ]


def node_facts(run: Run, node: TreeNode, parent: TreeNode | None) -> list[Fact]:
    """Everything known about a node."""
    if parent is None:
        return [("measured", latency(run, run.started.baseline_secs)), ("visits", f"{node.visits}, W {node.value:.4f}")]
    facts = [*edge_facts(run, node, parent), ("reward", f"{node.reward:.4f}")]
    if not node.pruned:
        facts += [("visits", f"{node.visits}, W {node.value:.4f}"), ("expander", label(run, node.model))]
    return [*facts, ("program", f"{node.program}")]


def speedup(run: Run, node: TreeNode) -> str:
    """The text beside a node: its speedup or kind of error; "" if it was not measured."""
    if node.latency_secs is None:
        return node.error or ""
    return f"{run.started.baseline_secs / node.latency_secs:.1f}x"


def label(run: Run, model: str | None) -> str:
    """A model's name, marked if a stand-in answered; "no model" for None."""
    provider = {m.name: m.provider for m in run.models}
    return "no model" if model is None else model_label(model, provider[model])


def backends(run: Run) -> str:
    """What answered, in words."""
    return ", ".join(backend_label(name) for name in sorted({m.provider for m in run.models}) or ["none"])


def latency(run: Run, secs: float) -> str:
    """Milliseconds, marked unless measured."""
    return f"{secs * 1e3:.3f} ms{mark(run.started.measurement)}"


def _measured(run: Run, node: TreeNode, parent: TreeNode) -> str:
    if node.pruned:
        return "never, for a course alteration pruned it"
    if node.latency_secs is None:
        return node.error or "not yet"
    after = latency(run, node.latency_secs)
    if parent.latency_secs is None:
        return f"{parent.error or 'not measured'} → {after}"
    gain = parent.latency_secs / node.latency_secs
    return f"{latency(run, parent.latency_secs)} → {after}, {gain:.2f}x{mark(run.started.measurement)}"


def _change(change: Change) -> str:
    if change.before is None:
        return f"{change.what} {change.after}"
    return f"{change.what} {change.before} → {change.after or 'gone'}"
