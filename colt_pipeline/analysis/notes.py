"""What a reader must know beside particular numbers, said only of experiments that it is true of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from colt_pipeline.analysis.compared import MODEL_SETS, compared, noise_range, one_seed
from colt_pipeline.analysis.labels import SEARCH_TITLES, WORKLOAD_TITLES, display_order, search_title, workload_title
from colt_pipeline.analysis.searches import HELD_OUT, comparable, searches, tuned_on
from colt_pipeline.analysis.tidy import Tidy, all_confirmed
from colt_pipeline.records import EMBEDDED

Note = Callable[[Tidy], str]


def with_notes(what: str, notes: Sequence[Note], tidy: Tidy) -> str:
    """A caption: what the numbers are, and those of the notes that apply to `tidy`."""
    return " ".join(filter(None, [what, *(note(tidy) for note in notes)]))


def noise(tidy: Tidy) -> str:
    """What the noise in the key is; "" if it is unknown."""
    return "Noise: 95 % of repeated measurements differ by less than this." if noise_range(tidy) else ""


def intervals(tidy: Tidy) -> str:
    """How intervals over seeds were made, or that there are none."""
    if one_seed(tidy):
        return "One seed gives no interval and no verdict."
    return "Low and high: 95 % interval (Student's t; shares: Clopper-Pearson), none with two pairs."


def verdicts(tidy: Tidy) -> str:
    """What it takes to be called faster or slower; "" with one seed, which gives no verdict."""
    if one_seed(tidy):
        return ""
    return (
        "Verdict: on the reference, which is called faster (or slower) than this one only if the interval of the ratio "
        "excludes 1 and the ratio exceeds its noise floor, which shrinks with the number of pairs."
    )


def pairs_of_runs(tidy: Tidy) -> str:
    """What the rows about pairs are; "" with one seed, which has none."""
    if one_seed(tidy):
        return ""
    confirmed = "Confirmed: of the programs that were measured again in turn at each run's end. " * all_confirmed(
        tidy.runs
    )
    return (
        "Of pairs of runs of one workload and seed, against the configuration in column over: ratio of final speedups, "
        f"geometric mean, and share of pairs in which this one ends faster, equal counts half. {confirmed}Intervals of "
        "the first two quantities may exceed 1: other seeds may do better."
    )


def random_sampling(tidy: Tidy) -> str:
    """Which searches begin at random, and for how many samples; "" if none does."""
    counts = tidy.runs[tidy.runs["random_samples"] > 0].groupby("search")["random_samples"].max()  # NaN is unknown
    said = []
    for name in display_order(counts.index, SEARCH_TITLES):
        only = tidy.runs["samples"].max() <= counts[name]
        verb = "is random sampling here" if only else "begins with random sampling"
        said.append(f"{search_title(name)} {verb}: no measurement guides its first {counts[name]:.0f} samples.")
    return " ".join(said)


def several_spaces(tidy: Tidy) -> str:
    """What speedups in different design spaces do not say; "" with one space."""
    if tidy.runs["space"].nunique() == 1:
        return ""
    return (
        "Speedups in different design spaces do not compare, because with vector math the unoptimized program is "
        "faster, too; latencies do."
    )


def set_by_construction(tidy: Tidy) -> str:
    """That a fixed rule set the shares of calls; "" if models made the choice."""
    if EMBEDDED not in set(tidy.calls["backend"]):
        return ""
    return "Stand-ins name the next model by a fixed rule: these shares are set by construction, not chosen by models."


def no_effect_of_sets(tidy: Tidy) -> str:
    """That stand-ins that only name transformations are nearly alike; "" where this does not apply."""
    several = compared(tidy) == MODEL_SETS and tidy.runs["model_set"].nunique() > 1
    alike = EMBEDDED in set(tidy.calls["backend"]) and set(tidy.runs["decisions"]) == {"tvm"}
    if not (several and alike):
        return ""
    return (
        "Answers only name transformations, and TVM draws their decisions: stand-ins of all sizes then differ almost "
        "only in how many of their answers are unusable, so these runs cannot show an effect of model sets."
    )


def held_out(tidy: Tidy) -> str:
    """Which of the workloads COLT+ was tuned on; "" if none, or if it is not among the searches."""
    ours = search_title("colt_plus")
    # A variant of COLT+ that is in no table shares the settings of COLT+, and was not tuned itself.
    tuned = tuned_on(tidy.runs["search"]) or tuned_on(["colt_plus"])
    own = [name for name in display_order(tidy.runs["workload"], WORKLOAD_TITLES) if name in tuned]
    if not own or not any(search_title(name).startswith(ours) for name in tidy.runs["search"]):
        return ""
    *most, last = map(workload_title, own)
    titles = f"{', '.join(most)} and {last}" if most else last
    if any(len(searches(part).groups) > 1 for part, _ in comparable(tidy)):
        return (
            f"Of these workloads, {ours} was tuned on {titles}; {HELD_OUT.lower()}: without {'them' if most else 'it'}."
        )
    these = f"th{'ese' if most else 'is'} very workload{'s' if most else ''}"
    everywhere = len(own) == tidy.runs["workload"].nunique()
    return f"{ours} was tuned on {these}." if everywhere else f"Of these workloads, {ours} was tuned on {titles}."
