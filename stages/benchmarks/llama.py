"""All of Llama-3-8B, a prefill of 16 tokens, tuned with weights as they are and with weights packed ahead.

Each tuned model is compiled, checked and measured as a whole. Beside that, the sum over its kernels, which are measured
one by one: with warm caches, and with cold caches where that is known (of weights that are packed ahead). Each kernel
is in llama_kernels.csv. With --untuned the model without schedules is measured as a whole, too, in one run of half an
hour. Rows are on disk as soon as they are known.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from colt_pipeline.analysis.labels import backend_label
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.config.spaces import space_name
from colt_pipeline.from_python import configuration
from colt_pipeline.measurement.backend import Backend, local
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.measurement.whole_model import measure_model
from colt_pipeline.records import Measurement
from stages.benchmarks import Row, command_line, positive, write_csv, write_rows
from stages.benchmarks.frameworks.model_runs import summaries
from stages.benchmarks.tuned import keys

SETTINGS = {"weights as they are": False, "weights packed ahead": True}
"""Setting -> ``prepack``."""
_UNTUNED = "untuned"
_RUN = "${workload.name}/${target.name}-${search.run_name}${space.run_name}-n${samples}-s${seed}"
"""As the configuration calls a run, which says nothing about packed weights."""
_UNTUNED_SECS = 3 * 3600.0
"""Limit of a run of the untuned model, which takes a quarter of an hour or more."""


def rows(out: Path, runs: Path, samples: int, untuned: bool, overrides: Sequence[str]) -> list[Row]:
    """A row per setting and, on request, one of the untuned model; the tables are written after each.

    Raises:
        ColtError: a model could not be tuned or measured.
    """
    backend = local(composed([]))
    made: list[Row] = []
    kernels: list[Row] = []
    for setting, prepack in SETTINGS.items():
        config = _run(runs, prepack, samples, overrides)
        (summary,) = summaries([config], True, backend)
        made.append(row(setting, summary) | _facts(summary, backend))
        kernels += [kernel_row(setting, task) for task in summary["tasks"]]
        write_csv(kernels, out / "llama_kernels.csv")
        _write(made, out)
    if untuned:
        print("the untuned model, whose run takes a quarter of an hour or more", file=sys.stderr, flush=True)
        made.append(untuned_row(_measured(_run(runs, False, samples, overrides), backend)))
        _write(made, out)
    return made


def _write(made: Sequence[Row], out: Path) -> None:
    write_csv(made, out / "llama.csv")
    print(f"{made[-1]['setting']}: {made[-1]['whole_ms']} ms", file=sys.stderr, flush=True)


def _run(runs: Path, prepack: bool, samples: int, overrides: Sequence[str]) -> Config:
    """The run that tunes the model in a setting, with the limits of conf/experiment/end_to_end.yaml."""
    given: dict[str, Any] = {"workload": "models/llama3_8b", "prepack": prepack, "space": "extended"}
    given |= {"kernels": "roofline", "samples": samples, "results": runs, "device": "local"}
    given |= {"run": _RUN + ("-packed" if prepack else "")}
    # the unoptimized lm_head takes two minutes a run, and each worker holds its input of 2.1 GB
    given |= {"measure.run_timeout_secs": 900, "measure.min_repeats": 1, "measure.cold_runs": 1, "measure.builders": 1}
    return configuration(given | keys(overrides))


def _measured(config: Config, backend: Backend) -> Measurement:
    """The untuned model as a whole, in one run."""
    settings = replace(config.measure, min_repeats=1, max_repeats=1, run_timeout_secs=_UNTUNED_SECS)
    with device_lock(backend.device.lock):
        (measured,) = measure_model(config.workload, False, {}, backend.target, settings)
    return measured


def row(setting: str, summary: Mapping[str, Any]) -> Row:
    """A tuned model, as a whole and as the sum of its kernels' calls."""
    tasks = summary["tasks"]
    cold = [task for task in tasks if task["cold_secs"] is not None]
    found: Row = {"setting": setting, "samples": summary["samples"], "whole_ms": _ms(summary["tuned_secs"])}
    found |= {"kernels_warm_ms": _ms(summary["tuned_sum_secs"])}
    # Those without a time with cold caches read little besides activations, which the kernel before has left in them.
    found |= {"kernels_cold_ms": _ms(sum(t["weight"] * _cold_or_warm(t) for t in tasks)) if cold else None}
    found |= {"kernels": len(tasks), "kernels_with_cold": len(cold)}
    found |= {"whole/kernels_warm": round(summary["tuned_secs"] / summary["tuned_sum_secs"], 3)}
    return found | {"relative_error": float(f"{summary['max_relative_error']:.2g}")}


def untuned_row(measured: Measurement) -> Row:
    """The untuned model, as a whole."""
    found: Row = {"setting": _UNTUNED, "samples": 0, "whole_ms": _ms(statistics.median(measured.run_secs))}
    return found | {"relative_error": float(f"{measured.max_relative_error:.2g}")}


def kernel_row(setting: str, task: Mapping[str, Any]) -> Row:
    """One kernel of a tuned model; times are of one call."""
    found: Row = {"setting": setting, "kernel": task["task"], "shapes": task["shape"], "calls": task["weight"]}
    found |= {"role": task["role"], "samples": task["samples"], "packed": bool(task["packed"])}
    found |= {"untuned_ms": _ms(task["unoptimized_secs"]), "warm_ms": _ms(task["best_secs"])}
    return found | {"cold_ms": None if task["cold_secs"] is None else _ms(task["cold_secs"])}


def _cold_or_warm(task: Mapping[str, Any]) -> float:
    return float(task["best_secs"] if task["cold_secs"] is None else task["cold_secs"])


def _ms(secs: float) -> float:
    return float(f"{1e3 * secs:.5g}")


def _facts(summary: Mapping[str, Any], backend: Backend) -> Row:
    """What a row says besides times."""
    facts: Row = {"space": space_name(summary.get("space", ())), "search": summary["search"]}
    facts |= {"llm": backend_label(summary["llm_backend"]), "threads": backend.target["num-cores"]}
    return {**facts, "device": backend.device.facts["cpu"]}


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.llama --out results/benchmark``."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--runs", type=Path, default=Path("build/llama"), help="directory of the runs; finished ones are taken as is")
    add("--samples", type=positive, default=256, help="programs that each run measures")
    add("--untuned", action="store_true", help="measure the untuned model as a whole, too")
    add("overrides", nargs="*", help="of the runs, such as seed=1")
    given = parser.parse_args(argv)
    chosen = (given.out, given.runs, given.samples, given.untuned, given.overrides)
    return write_rows(lambda: rows(*chosen), given.out / "llama.csv")


if __name__ == "__main__":
    sys.exit(main())
