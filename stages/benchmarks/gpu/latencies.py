"""The latencies of a check side by side: unoptimized, tuned by each search, and PyTorch's."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence

from colt_pipeline.job import read_summary
from stages.benchmarks import Row
from stages.benchmarks.gpu.plan import Plan

_MS_PER_SEC = 1e3
_SEARCHES = ("colt", "evolutionary")


def rows(plan: Plan) -> Sequence[Row]:
    """One row per workload, from the finished or cut runs of `gpu_searches` and torch.csv."""
    torch = _torch(plan)
    found: list[Row] = []
    for workload in plan.workloads:
        configs = [c for c in plan.recorded if c.workload.name == workload and c.search.name in _SEARCHES]
        summaries = {c.search.name: summary for c in configs if (summary := read_summary(c)) is not None}
        if summaries:
            found.append(row(workload, plan.latencies, summaries, torch.get(workload, {})))
    return found


def row(workload: str, latencies: str, summaries: Mapping[str, Mapping[str, object]], torch: Mapping[str, str]) -> Row:
    """A workload's row; None for what was not measured."""
    first = next(iter(summaries.values()))
    best = {name: _ms(summaries.get(name, {}).get("best_secs")) for name in _SEARCHES}
    unoptimized, colt = _ms(first["baseline_secs"]), best["colt"]
    others = {
        "evolutionary": best["evolutionary"],
        **{k: _float(torch.get(f"{k}_ms")) for k in ("torch", "torch_tf32")},
    }
    found: Row = {"workload": workload, "unoptimized_ms": unoptimized, "colt_ms": colt}
    found |= {f"{name}_ms": ms for name, ms in others.items()}
    found |= {"unoptimized/colt": _ratio(unoptimized, colt)}
    found |= {f"{name}/colt": _ratio(ms, colt) for name, ms in others.items()}
    llm = summaries["colt"]["llm_backend"] if "colt" in summaries else None
    return {**found, "samples": first["budget_samples"], "llm": llm, "latencies": latencies}


def _torch(plan: Plan) -> dict[str, dict[str, str]]:
    path = plan.out / "torch.csv"
    if plan.dry or not path.exists():
        return {}
    with path.open(newline="") as file:
        return {line["workload"]: line for line in csv.DictReader(file)}


def _float(text: str | None) -> float | None:
    return float(text) if text else None


def _ms(secs: object) -> float | None:
    return round(_MS_PER_SEC * secs, 5) if isinstance(secs, float) else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return round(one / other, 3) if one and other else None
