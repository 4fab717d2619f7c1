"""Run directories with numbers computed by hand."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.analysis import tidy
from colt_pipeline.analysis.journals import JOURNAL_FIELDS
from colt_pipeline.search.outcome import ALTERATIONS, CURVE_COLUMNS

WriteRun = Callable[..., Path]
WriteNoise = Callable[..., Path]
AddRun = Callable[..., None]

SIZES = {"gpt-5.2": 300.0, "gpt-5-mini": 20.0, "tiny": 0.135}


def _write_csv(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _usd(prompt: int, completion: int, price: tuple[float, float] | None) -> float | None:
    return None if price is None else (prompt * price[0] + completion * price[1]) / 1e6


@pytest.fixture
def write_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteRun:
    """Write one run directory below ``tmp_path/runs``; unlisted keywords go to summary.json."""
    journals: dict[Path, dict[str, Any]] = {}
    monkeypatch.setattr(tidy, "journal_fields", lambda path: dict.fromkeys(JOURNAL_FIELDS) | journals[path])

    def write(
        name: str,
        calls: dict[str, tuple[int, int]],
        latencies: tuple[float | None, ...],
        rejections: dict[str, int] | None = None,
        made: dict[str, tuple[int, int]] | None = None,
        turns: Sequence[dict[str, int]] = (),
        prices: dict[str, tuple[float, float]] | None = None,
        journal: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        """A run whose unoptimized program takes 1 s, so that speedup is 1 / latency.

        Args:
            name: name of the directory.
            calls: model -> (regular calls, course alterations).
            latencies: seconds per sample, None if it failed.
            rejections: counts by kind.
            made: model -> (children, regressions).
            turns: the rows of turns.csv.
            prices: model -> USD per million tokens of prompts and of answers.
            journal: what its journal adds (see `journal_fields`), which is otherwise unknown.
            changes: fields of summary.json.
        """
        run_dir = tmp_path / "runs" / name
        run_dir.mkdir(parents=True)
        journals[run_dir] = journal or {}
        curve: list[dict[str, Any]] = []
        best: float | None = changes.get("initial_secs")
        for sample, secs in enumerate(latencies, start=1):
            best = min((x for x in (best, secs) if x is not None), default=None)
            row = {"sample": sample, "latency_secs": secs, "best_secs": best, "speedup": best and 1 / best}
            curve.append({key: "" if value is None else value for key, value in row.items()})
        largest = max(calls, key=SIZES.__getitem__)
        backend = changes.get("llm_backend", "embedded")
        summary = {
            "experiment": "paper",
            "run": name,
            "workload": "flux_conv",
            "target": "cpu",
            "search": "paper",
            "model_set": "2",
            "largest": largest,
            "seed": 0,
            "samples": len(latencies),
            "budget_samples": 8,
            "stopped": "samples",
            "baseline_secs": 1.0,
            "best_secs": best,
            "speedup": best and 1 / best,
            "best_sample": None,
            "best_program": "12e456",
            "gflops": None,
            "llm_backend": backend,
            "measurement": "measured",
            "device": "cpu-2-cores",
            "warmup_samples": 16,
            "steps": 10,
            "regular_calls": sum(regular for regular, _ in calls.values()),
            "course_alterations": sum(altered for _, altered in calls.values()),
            "small_model_calls": sum(regular for model, (regular, _) in calls.items() if model != largest),
            "rejections": rejections or {},
            "sample_errors": {},
            "timed_secs": None,
            **changes,
        }
        (run_dir / "summary.json").write_text(json.dumps(summary))
        (run_dir / "events.jsonl").touch()
        _write_csv(run_dir / "curve.csv", curve, list(curve[0]) if curve else CURVE_COLUMNS)
        rows: list[dict[str, Any]] = [
            {"model": model, "parameters_b": SIZES[model], "is_largest": model == largest, "backend": backend}
            | {"regular_calls": regular, "course_alterations": altered, "hits": 0, "hit_rate": 0.0, "errors": 0}
            | (rejections or {})
            | {"prompt_tokens": 100 * regular, "completion_tokens": 10 * regular}
            | {"alteration_prompt_tokens": 0, "alteration_completion_tokens": 0}
            | {"llm_secs": 0.0, "alteration_llm_secs": 0.0, "usd": None, "alteration_usd": None}
            | dict(zip(("children", "regressions"), (made or {}).get(model, (0, 0)), strict=True))
            | {"estimated_usd": _usd(100 * regular, 10 * regular, (prices or {}).get(model))}
            for model, (regular, altered) in calls.items()
        ]
        _write_csv(run_dir / "calls.csv", rows)
        _write_csv(run_dir / "turns.csv", turns, list(turns[0]) if turns else ("sample", ALTERATIONS))
        return run_dir

    return write


@pytest.fixture
def runs_dir(write_run: WriteRun, tmp_path: Path) -> Path:
    """Two workloads with a set of two models, and one with a single model.

    Pooled over workloads, COLT(2) made 10 + 30 = 40 regular calls of gpt-5.2 and 30 + 90 = 120 of gpt-5-mini, and
    4 + 8 = 12 course alterations.
    """
    write_run("a", {"gpt-5.2": (10, 4), "gpt-5-mini": (30, 0)}, (0.5, 1.0, 0.25), workload="my_kernel")
    write_run("b/c", {"gpt-5.2": (30, 8), "gpt-5-mini": (90, 0)}, (None, 1.0, 0.5, 0.0625), {"truncated": 3})
    write_run("d", {"gpt-5-mini": (50, 0)}, (0.5, 0.25), model_set="small")
    return tmp_path / "runs"


@pytest.fixture
def write_noise(tmp_path: Path) -> WriteNoise:
    """Write one noise recording below ``tmp_path/noise``."""

    def write(
        latencies: Sequence[float | None],
        workload: str = "flux_conv",
        device: str = "cpu-2-cores",
        header: dict[str, Any] | None = None,
    ) -> Path:
        """`latencies`: seconds per measurement, two minutes apart, None if it failed; `header` changes its first line.

        The run times of a measurement are its latency, 10 % less and 10 % more.
        """
        path = tmp_path / "noise" / device / f"{workload}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines: list[dict[str, Any]] = [
            {"schema": 1, "workload": workload, "workload_hash": "ab", "target": {}, "device": {}, "evaluator": {}}
            | {"measurement": "measured"}
            | (header or {})
        ]
        lines += [
            {"program": "12e456", "elapsed_secs": 120.0 * index}
            | {"run_secs": [] if secs is None else [0.9 * secs, 1.1 * secs, secs]}
            | {"error": "timeout" if secs is None else None}
            for index, secs in enumerate(latencies)
        ]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return path

    return write
