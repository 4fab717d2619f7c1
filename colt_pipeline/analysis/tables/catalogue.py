"""Which tables there are of an experiment, what they say, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from colt_pipeline.analysis.compared import MODEL_SETS, SEARCHES, Compared, common_caption, compared
from colt_pipeline.analysis.course_alterations import course_table
from colt_pipeline.analysis.index import Entry
from colt_pipeline.analysis.recorded_times import recorded_times
from colt_pipeline.analysis.searches import search_ratios, search_speedups
from colt_pipeline.analysis.tables.comparisons import comparisons
from colt_pipeline.analysis.tables.files import write_files
from colt_pipeline.analysis.tables.invocation import best_latencies, call_counts, invocation_rates, speedups
from colt_pipeline.analysis.tables.paper import COMPARED, SOURCE, paper_layout, paper_speedups
from colt_pipeline.analysis.tables.samples_needed import BASELINE, REACHED, samples_to_reach
from colt_pipeline.analysis.tables.statistics import statistics
from colt_pipeline.analysis.tidy import Tidy

_SEE_NOISE = "(which differences exceed the noise: see comparisons)"


@dataclass(frozen=True)
class Table:
    """A table that can be made of an experiment."""

    make: Callable[[Tidy], pd.DataFrame]
    what: str
    """What its numbers are; begins its caption."""
    compared: tuple[Compared, ...] = (MODEL_SETS, SEARCHES)
    """The experiments that it is about."""


TABLES = {
    "speedups": Table(speedups, f"Speedup over the unoptimized program {_SEE_NOISE}", (MODEL_SETS,)),
    "search_speedups": Table(
        search_speedups,
        "Speedup over the unoptimized program after so many samples, geometric mean over seeds",
        (SEARCHES,),
    ),
    "search_ratios": Table(
        search_ratios,
        "Geometric mean of the speedup over workloads and seeds; the reference's speedup / this one's; share of pairs "
        "of runs in which the reference is better; low and high: 95 % interval of a bootstrap over seeds",
        (SEARCHES,),
    ),
    "comparisons": Table(
        comparisons,
        "Best latency against the reference's (ratio: the reference's / this one; called faster or slower only beyond "
        "the noise floor: 95 % of pairs of measurements of one program differ by less)",
        (MODEL_SETS,),
    ),
    "statistics": Table(
        statistics,
        "Whole runs in single numbers, higher is better: final speedup as a share of the best of any run of the "
        "workload, interquartile mean over workloads and seeds; area under the curve, the mean over samples of ln "
        "speedup, 1 is the best of any run from the first sample on; final speedup / samples, geometric mean; of pairs "
        "of runs of one workload and seed, against the configuration in column over: ratio of final speedups, "
        "geometric mean, and share of pairs in which this one ends faster, equal counts half; low and high: 95 % "
        "interval of a bootstrap over seeds, which one seed leaves unknown",
    ),
    "samples_to_reach": Table(
        samples_to_reach,
        f"Measured samples, median over seeds, until {REACHED:.0%} of the best speed that any run reached (> N: not "
        f"within N samples); ratio: the samples that {BASELINE} needs / these",
        (SEARCHES,),
    ),
    "best_latencies": Table(best_latencies, f"Latency in milliseconds {_SEE_NOISE}", (MODEL_SETS,)),
    "invocation_rates": Table(
        invocation_rates,
        "Share of regular LLM calls in percent (course alteration rate: per regular call of a small model; total: with "
        "course alterations)",
    ),
    "call_counts": Table(call_counts, "LLM calls"),
    "paper_speedups": Table(
        paper_speedups,
        f"Speedups that the text of {SOURCE} names beside ours; they are over different unoptimized programs, on "
        "different machines and after different numbers of samples, so the difference is no verdict",
        (MODEL_SETS,),
    ),
    **{
        f"paper_table_{number}": Table(
            partial(paper_layout, number=number),
            f"Table {number} of {SOURCE} beside ours, {what}; difference: ours - the paper's",
            (MODEL_SETS,),
        )
        for number, what in COMPARED.items()
    },
    "alterations_and_chance": Table(
        course_table,
        "Course alterations per program of a small model (rate), beside coin = p^2/(1+p), what two regressions in a "
        "row give if each program is a regression with probability p (regression), independently of the others; pooled "
        "over workloads and seeds; low and high: 95 % interval (Wilson), that of coin by that of p; regressions by "
        "predicted scores",
    ),
    "recorded_times": Table(
        recorded_times,
        "Recorded seconds per run, mean over workloads and seeds (stand-ins answer at once; timed runs: of the "
        "samples, shared ones too; building and the search itself are not recorded)",
    ),
}
"""File name -> table, in the order of the report."""


def write_tables(tidy: Tidy, out: Path) -> dict[str, pd.DataFrame]:
    """Write the tables about what `tidy` compares, with their index; those without a row are left out.

    Returns:
        File name -> table, those without a row too.
    """
    kind, common = compared(tidy), common_caption(tidy)
    made = {name: table.make(tidy) for name, table in TABLES.items() if kind in table.compared}
    write_files(
        {Entry(name, f"{TABLES[name].what}: {common}."): frame for name, frame in made.items() if len(frame)}, out
    )
    return made
