"""The tables of an experiment, their captions and their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from colt_pipeline.analysis.compared import MODEL_SETS, SEARCHES, Compared, compared, key
from colt_pipeline.analysis.course_alterations import alterations_and_chance, persistence_table
from colt_pipeline.analysis.index import Entry
from colt_pipeline.analysis.notes import (
    Note,
    held_out,
    intervals,
    no_effect_of_sets,
    pairs_of_runs,
    random_sampling,
    set_by_construction,
    several_spaces,
    verdicts,
    with_notes,
)
from colt_pipeline.analysis.recorded_times import recorded_times
from colt_pipeline.analysis.tables.comparisons import comparisons
from colt_pipeline.analysis.tables.files import write_files
from colt_pipeline.analysis.tables.invocation import best_latencies, call_counts, invocation_rates, speedups
from colt_pipeline.analysis.tables.paper import COMPARED, SOURCE, paper_layout, paper_speedups
from colt_pipeline.analysis.tables.ratios import ratios, search_speedups
from colt_pipeline.analysis.tables.samples_needed import REACHED, needed_by, samples_to_reach
from colt_pipeline.analysis.tables.statistics import statistics
from colt_pipeline.analysis.tidy import Tidy


@dataclass(frozen=True)
class Table:
    """A table that can be made for an experiment."""

    make: Callable[[Tidy], pd.DataFrame]
    title: str
    what: str
    """What its numbers are; the beginning of the caption."""
    compared: tuple[Compared, ...] = (MODEL_SETS, SEARCHES)
    """The kinds of experiments it applies to."""
    notes: tuple[Note, ...] = ()
    """What must be known beside the numbers, in sentences that follow in the caption; "" where it does not apply."""


_NOISE = "Which differences exceed the noise: see the comparisons."

TABLES = {
    "speedups": Table(
        speedups,
        "Final speedups",
        f"Speedup over the unoptimized program, geometric mean over seeds. {_NOISE}",
        (MODEL_SETS,),
        (several_spaces, no_effect_of_sets),
    ),
    "search_speedups": Table(
        search_speedups,
        "Speedups at equal samples",
        "Speedup over the unoptimized program after so many samples, geometric mean over seeds.",
        (SEARCHES,),
        (several_spaces, random_sampling, held_out),
    ),
    "ratios": Table(
        ratios,
        "The reference against the others at equal samples",
        "Speedup: geometric mean over workloads and seeds. Ratio: the reference's speedup / this one's, geometric mean "
        "over pairs of runs of one workload and seed; better: share of these pairs in which the reference is faster, "
        "equal counts half.",
        notes=(verdicts, intervals, several_spaces, random_sampling, no_effect_of_sets, held_out),
    ),
    "comparisons": Table(
        comparisons,
        "The single large model against the others, by workload",
        "Latency and ratio (this latency / the reference's): geometric mean over seeds.",
        (MODEL_SETS,),
        (verdicts, intervals, no_effect_of_sets),
    ),
    "statistics": Table(
        statistics,
        "Statistics of whole runs",
        "Higher is better. Share of the best speedup: final speedup / the best of any run of the workload, geometric "
        "mean over workloads and seeds. Area under the curve: mean over samples of ln speedup, 1 is the best of any "
        "run from the first sample on. Sample efficiency: final speedup / samples, geometric mean.",
        notes=(pairs_of_runs, intervals, several_spaces, random_sampling, no_effect_of_sets, held_out),
    ),
    "samples_to_reach": Table(
        samples_to_reach,
        "Samples needed",
        f"Measured samples, median over seeds, until {REACHED:.0%} of the best speed that any run reached (> N: not "
        "within N samples).",
        (SEARCHES,),
        (needed_by, random_sampling, held_out),
    ),
    "best_latencies": Table(
        best_latencies, "Latencies", f"Milliseconds, geometric mean over seeds. {_NOISE}", (MODEL_SETS,)
    ),
    "invocation_rates": Table(
        invocation_rates,
        "Shares of calls",
        "Percent of regular LLM calls (course alteration rate: per regular call of a small model; total: with course "
        "alterations).",
        notes=(set_by_construction,),
    ),
    "call_counts": Table(call_counts, "LLM calls", "Number of calls, summed over seeds.", notes=(set_by_construction,)),
    "paper_speedups": Table(
        paper_speedups,
        "Speedups that the paper's text names, beside ours",
        f"{SOURCE}. They are over different unoptimized programs, on different machines and after different numbers of "
        "samples, so the difference is no verdict.",
        (MODEL_SETS,),
    ),
    **{
        f"paper_table_{number}": Table(
            partial(paper_layout, number=number),
            f"Table {number} of the paper beside ours",
            f"{SOURCE}: {what}; difference: ours - the paper's.",
            (MODEL_SETS,),
            (set_by_construction,),
        )
        for number, what in COMPARED.items()
    },
    "persistence": Table(
        persistence_table,
        "Do regressions persist?",
        "Of the programs that small models made below another one by a small model, the share predicted to be slower "
        "than their parent: where the one above was such a regression, and otherwise; pooled over workloads and seeds. "
        "Difference: the first share - the second; above 0 if regressions persist. Low and high: 95 % interval "
        "(Clopper-Pearson; difference: Newcombe) of independent programs.",
    ),
    "alterations_and_chance": Table(
        alterations_and_chance,
        "Course alterations beside chance",
        "Rate: alterations per program that a small model made while the cost model predicted. Chance: the rate if "
        "each program were a regression with the same probability p, independently: for path_birth p times the share "
        "of programs below a regression, for a rule in call order p²/(1+p); rules that score what is above again have "
        "none. Low and high: 95 % interval (Clopper-Pearson) of "
        "independent programs.",
    ),
    "recorded_times": Table(
        recorded_times,
        "Recorded seconds",
        "Per run, mean over workloads and seeds. Stand-ins answer at once; timed runs: of the samples, shared ones "
        "too. Building and the search itself are not recorded.",
    ),
}
"""File name -> table, in the order of the report."""


def write_tables(tidy: Tidy, out: Path) -> dict[str, pd.DataFrame]:
    """Write the tables that apply to `tidy`, except empty ones, and their index.

    Returns:
        File name -> table, including empty ones.
    """
    kind, common = compared(tidy), key(tidy)
    made = {name: table.make(tidy) for name, table in TABLES.items() if kind in table.compared}
    entries = {
        Entry(name, TABLES[name].title, with_notes(TABLES[name].what, TABLES[name].notes, tidy), common): frame
        for name, frame in made.items()
        if len(frame)
    }
    write_files(entries, out)
    return made
