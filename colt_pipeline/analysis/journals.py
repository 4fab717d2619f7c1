"""What a run's journal and configuration add to its summary: how it searched, and what followed on regressions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from colt_pipeline.analysis.tree.run import Run, read_run
from colt_pipeline.errors import RunDirError
from colt_pipeline.runs.events import Measured, Stepped
from colt_pipeline.runs.layout import CONFIG, JOURNAL

PREDICTED, AFTER_REGRESSION, AFTER_RISE = "predicted", "after_regression", "after_rise"
REGRESSED = "_regressed"

TEXTS = ("course_rule", "decisions")
COUNTS = (
    "random_samples",
    *(f"{name}{end}" for name in (AFTER_REGRESSION, AFTER_RISE, PREDICTED) for end in ("", REGRESSED)),
)
JOURNAL_FIELDS = (*TEXTS, *COUNTS)


def journal_fields(run_dir: Path) -> dict[str, Any]:
    """JOURNAL_FIELDS of a run, empty if it has no journal.

    Returns:
        course_rule (``search.course_alteration`` by today's names) and decisions (who makes a schedule's decisions,
        "models" or "tvm"), both "" without LLMs; random_samples (programs that TVM's own search draws at random before
        any measurement guides it, 0 for other searches); of the programs that small models made while the cost model
        predicted, pruned ones included: predicted (all), after_regression (those whose nearest ancestor by a small
        model was a regression, that is, predicted to be slower than its own parent when it was made) and after_rise
        (those whose nearest was not), each also with _regressed (how many of them are regressions themselves).

    Raises:
        RunDirError: the configuration is invalid, or disagrees with the summary.
        JournalError: the journal is corrupt.
    """
    if not (run_dir / JOURNAL).exists():
        return dict.fromkeys(JOURNAL_FIELDS)
    run = read_run(run_dir)
    asked = any(isinstance(event, Stepped) and event.calls for event in run.events)
    counts: Counter[str] = Counter()
    for above, regressed in _judged(run):
        for kind in (PREDICTED, *([] if above is None else [AFTER_REGRESSION if above else AFTER_RISE])):
            counts.update({kind: 1, kind + REGRESSED: int(regressed)})
    search = run.config["search"]
    rule = search["course_alteration"]
    if _draws_at_first(search) and search["evolution"] is None:
        raise RunDirError(f"{run_dir / CONFIG} lacks search.evolution, which an evolutionary search needs; restore it")
    return {
        "course_rule": ("path_birth" if rule == "path" and _is_legacy(search) else rule) if asked else "",
        "decisions": ("models" if search["decisions"] else "tvm") if asked else "",
        **{name: counts[name] for name in COUNTS},
        "random_samples": search["evolution"]["num_trials_per_iter"] if _draws_at_first(search) else 0,
    }


def _draws_at_first(search: Mapping[str, Any]) -> bool:
    """Whether the first batch is bred from random programs by a model that has seen none."""
    return (search["strategy"], search["cost_model"]) == ("evolutionary", "xgb")


def _is_legacy(search: Mapping[str, Any]) -> bool:
    return bool(search.get("legacy", True))


def _judged(run: Run) -> Iterator[tuple[bool | None, bool]]:
    """For each program by a small model: whether the nearest one above regressed, if there is one, and it itself.

    Programs that were made before the cost model predicted are left out: their scores are noise.
    """
    search, small = run.config["search"], {model.name for model in run.models} - {run.largest}
    warmup = search["warmup_samples"] if search["cost_model"] == "xgb" and not _is_legacy(search) else 0
    judged: dict[str, tuple[int, bool]] = {}
    measured = 0
    for event in run.events:
        if isinstance(event, Measured):
            measured += len(event.samples)
        elif isinstance(event, Stepped) and measured >= warmup:
            by_first = event.calls[0].model if event.calls else None
            for child, maker in ((event.pruned, by_first), (event.child, event.made_by)):
                if child is not None and maker in small:
                    judged[child.program] = (event.parent, child.score < child.parent_score)
    for parent, regressed in judged.values():
        above = (n.record.program for n in run.state.tree.path(parent) if n.record is not None)
        yield next((judged[program][1] for program in above if program in judged), None), regressed
