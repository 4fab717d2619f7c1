"""Write the tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from colt_pipeline.analysis.figures.course_alterations import course_table
from colt_pipeline.analysis.figures.times import recorded_times
from colt_pipeline.analysis.labels import caption
from colt_pipeline.analysis.searches import search_caption, search_ratios, search_speedups
from colt_pipeline.analysis.tables.comparisons import comparisons
from colt_pipeline.analysis.tables.invocation import (
    best_latencies,
    call_counts,
    invocation_rates,
    speedups,
    write_table,
)
from colt_pipeline.analysis.tables.paper import COMPARED, SOURCE, paper_layout, paper_speedups
from colt_pipeline.analysis.tables.samples_needed import BASELINE, REACHED, samples_to_reach
from colt_pipeline.analysis.tables.statistics import statistics
from colt_pipeline.analysis.tidy import Tidy, read_tidy
from stages import run_stage

_SEE_NOISE = "(which differences exceed the noise: see comparisons)"
MODEL_SETS, SEARCHES = "model_sets", "searches"

CAPTIONS = {MODEL_SETS: caption, SEARCHES: search_caption}
"""What is compared -> what is said of all runs."""

TABLES: dict[str, tuple[Callable[[Tidy], pd.DataFrame], str, tuple[str, ...]]] = {
    "invocation_rates": (
        invocation_rates,
        "Share of regular LLM calls in percent (course alteration rate: per regular call of a small model; total: with "
        "course alterations)",
        (MODEL_SETS, SEARCHES),
    ),
    "call_counts": (call_counts, "LLM calls", (MODEL_SETS, SEARCHES)),
    "speedups": (speedups, f"Speedup over the unoptimized program {_SEE_NOISE}", (MODEL_SETS,)),
    "best_latencies": (best_latencies, f"Latency in milliseconds {_SEE_NOISE}", (MODEL_SETS,)),
    "comparisons": (
        comparisons,
        "Best latency against the reference's (ratio: the reference's / this one; called faster or slower only beyond "
        "the noise floor: 95 % of pairs of measurements of one program differ by less)",
        (MODEL_SETS,),
    ),
    "search_speedups": (
        search_speedups,
        "Speedup over the unoptimized program after so many samples, geometric mean over seeds",
        (SEARCHES,),
    ),
    "search_ratios": (
        search_ratios,
        "Geometric mean of the speedup over workloads and seeds; the reference's speedup / this one's; share of pairs "
        "of runs in which the reference is better; low and high: 95 % interval of a bootstrap over seeds",
        (SEARCHES,),
    ),
    "samples_to_reach": (
        samples_to_reach,
        f"Measured samples, median over seeds, until {REACHED:.0%} of the best speed that any run reached (> N: not "
        f"within N samples); ratio: the samples that {BASELINE} needs / these",
        (SEARCHES,),
    ),
    "statistics": (
        statistics,
        "Whole runs in single numbers, higher is better: final speedup as a share of the best of any run of the "
        "workload, interquartile mean over workloads and seeds; area under the curve, the mean over samples of ln "
        "speedup, 1 is the best of any run from the first sample on; final speedup / samples, geometric mean; of pairs "
        "of runs of one workload and seed, against the configuration in column over: ratio of final speedups, "
        "geometric mean, and share of pairs in which this one ends faster, equal counts half; low and high: 95 % "
        "interval of a bootstrap over seeds, which one seed leaves unknown",
        (MODEL_SETS, SEARCHES),
    ),
    "alterations_and_chance": (
        course_table,
        "Course alterations per program of a small model (rate), beside coin = p^2/(1+p), what two regressions in a "
        "row give if each program is a regression with probability p (regression), independently of the others; pooled "
        "over workloads and seeds; low and high: 95 % interval (Wilson), that of coin by that of p; regressions by "
        "predicted scores",
        (MODEL_SETS, SEARCHES),
    ),
    "recorded_times": (
        recorded_times,
        "Recorded seconds per run, mean over workloads and seeds (stand-ins answer at once; timed runs: of the "
        "samples, shared ones too; building and the search itself are not recorded)",
        (MODEL_SETS, SEARCHES),
    ),
    "paper_speedups": (
        paper_speedups,
        f"Speedups that the text of {SOURCE} names beside ours; they are over different unoptimized programs, on "
        "different machines and after different numbers of samples, so the difference is no verdict",
        (MODEL_SETS,),
    ),
    **{
        f"paper_table_{number}": (
            partial(paper_layout, number=number),
            f"Table {number} of {SOURCE} beside ours, {what}; difference: ours - the paper's",
            (MODEL_SETS,),
        )
        for number, what in COMPARED.items()
    },
}
"""File name -> (function, what its numbers are, for which comparisons)."""


def write_tables(data_dir: Path, out: Path, compare: str) -> None:
    """Tidy CSV files in `data_dir` -> in `out` one table per entry of TABLES for what is compared."""
    tidy = read_tidy(data_dir)
    for name, (table, title, comparisons_of) in TABLES.items():
        if compare in comparisons_of and len(frame := table(tidy)):  # the paper has nothing on some experiments
            write_table(frame, f"{title}: {CAPTIONS[compare](tidy)}.", out, name)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.tables --data results/data/cpu --out results/tables/cpu``."""
    return run_stage(write_tables, "data", __doc__, argv, choices={"compare": tuple(CAPTIONS)})


if __name__ == "__main__":
    sys.exit(main())
