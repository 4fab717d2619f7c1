"""Statistics of runs with known results; the unoptimized program takes 1 s."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from colt_pipeline.analysis.intervals import stratified_share
from colt_pipeline.analysis.searches import wins
from colt_pipeline.analysis.tables.statistics import (
    AREA,
    CONFIRMED_RATIO,
    EFFICIENCY,
    EQUAL,
    FEW,
    IMPROVEMENT,
    KNOWN,
    MISSING,
    RATIO,
    SHARE,
    area_under_curve,
    statistics,
)
from colt_pipeline.analysis.tidy import aggregate
from tests.analysis.conftest import AddRun, WriteRun

TWO = {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}
OURS, PAPERS, TVM = "COLT+ (stand-in)", "COLT (stand-in)", "TVM's evolutionary search (stand-in)"


@pytest.fixture
def add(write_run: WriteRun) -> AddRun:
    """Write a run: search, workload, seed and latencies."""

    def add(search: str, workload: str, seed: int, *latencies: float | None, **changes: Any) -> None:
        name = f"{search}-{workload}-{seed}{changes.get('target', '')}"
        write_run(name, TWO, latencies, search=search, workload=workload, seed=seed, **changes)

    return add


@pytest.fixture
def table(tmp_path: Path) -> Callable[[], pd.DataFrame]:
    """The statistics of the runs written so far."""
    return lambda: statistics(aggregate(tmp_path / "runs"))


def row(table: pd.DataFrame, quantity: str, configuration: str) -> dict[Any, Any]:
    (found,) = table[(table["quantity"] == quantity) & (table["configuration"] == configuration)].to_dict("records")
    return found


def test_equal_distributions_improve_on_each_other_half_the_time_and_a_shifted_one_always() -> None:
    one = np.random.default_rng(2).normal(size=(2000, 1))
    other = np.random.default_rng(3).normal(size=one.shape)
    assert stratified_share([wins(one, other)]).mean == pytest.approx([0.5], abs=0.05)
    always = stratified_share([wins(one + 20, one)])
    assert (always.mean, always.high) == ([1.0], [1.0]) and 0.99 < always.low < 1, "2000 wins leave some doubt"


def test_the_area_under_a_step_curve_by_hand() -> None:
    nan = math.nan
    curves = np.log([[nan, 1.0, 4.0, 4.0], [16.0] * 4, [0.5, 2.0, nan, nan], [nan] * 4])
    # No program, then none faster, then halfway twice; the best from the start; a run that has ended; nothing.
    areas = area_under_curve(curves, np.full(4, math.log(16.0)))
    assert areas == pytest.approx([0.25, 1.0, nan, 0.0], nan_ok=True)
    assert np.isnan(area_under_curve(curves, np.zeros(4))).all(), "nothing was faster: there is no scale"


def test_every_quantity_of_two_searches_by_hand(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    for seed in (0, 1):
        add("colt_plus", "flux_conv", seed, 0.5, 0.0625)  # speedups 2 and 16
        add("colt_plus", "my_kernel", seed, 0.25, 0.25)
        add("paper", "flux_conv", seed, 0.5, 0.25)
        add("paper", "my_kernel", seed, None, (0.25, 0.5)[seed])
    found = table()
    shares = {name: row(found, SHARE, name) for name in (OURS, PAPERS)}
    assert shares[OURS]["value"] == 1.0
    assert shares[PAPERS]["value"] == pytest.approx((1 / 4 * 1 / 4 * 1 * 1 / 2) ** (1 / 4))
    assert row(found, AREA, OURS)["value"] == pytest.approx(((1 / 4 + 1) / 2 + 1) / 2)
    assert row(found, AREA, PAPERS)["value"] == pytest.approx(((1 / 4 + 1 / 2) / 2 + (1 / 2 + 1 / 4) / 2) / 2)
    assert row(found, EFFICIENCY, OURS)["value"] == pytest.approx(8 / 2)  # geometric means: 16 and 4; two samples
    ratio = row(found, RATIO, OURS)
    assert (ratio["over"], ratio["value"]) == (PAPERS, pytest.approx((4 * 4 * 1 * 2) ** (1 / 4)))
    half = stats.t.ppf(0.975, 2) * math.log(2) / 4  # only my_kernel varies, by ln 2
    assert (ratio["low"], ratio["high"]) == pytest.approx(
        (ratio["value"] * math.exp(-half), ratio["value"] * math.exp(half))
    )
    better = row(found, IMPROVEMENT, OURS)
    assert (better["over"], better["value"], better["runs"]) == (PAPERS, pytest.approx(0.875), 4)
    assert better["interval"] == KNOWN and 0 < better["low"] < 0.875 < better["high"] < 1


def test_confirmed_latencies_are_compared_where_every_run_has_one(
    add: AddRun, table: Callable[[], pd.DataFrame]
) -> None:
    for seed in (0, 1):
        add("colt_plus", "flux_conv", seed, 0.125, confirmed_secs=(0.25, 0.5)[seed])  # its own best was lucky
        add("paper", "flux_conv", seed, 0.25, confirmed_secs=0.25)
    ratio = row(table(), CONFIRMED_RATIO, OURS)
    assert (ratio["over"], ratio["value"], ratio["runs"]) == (PAPERS, pytest.approx(0.5**0.5), 2)
    assert row(table(), RATIO, OURS)["value"] == pytest.approx(2.0)
    add("paper", "flux_conv", 2, 0.25)
    assert CONFIRMED_RATIO not in set(table()["quantity"])


def test_ties_and_certain_wins_leave_doubt(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    for seed in range(3):
        add("colt_plus", "flux_conv", seed, 0.25)
        add("paper", "flux_conv", seed, 0.25)
        add("evolutionary", "flux_conv", seed, 0.5)
    better = table().query("quantity == @IMPROVEMENT").set_index(["configuration", "over"])[["value", "low", "high"]]
    assert better.loc[(OURS, PAPERS), "value"] == 0.5 and better.loc[(OURS, TVM), "value"] == 1.0
    assert (better["high"] - better["low"] > 0.5).all()


def test_two_pairs_give_no_interval_and_two_workloads_of_two_seeds_do(
    add: AddRun, table: Callable[[], pd.DataFrame]
) -> None:
    for seed, secs in enumerate((0.5, 0.4)):
        add("colt_plus", "flux_conv", seed, secs)
        add("paper", "flux_conv", seed, 0.6)
    found = table()
    assert set(found["interval"]) == {FEW} and found["value"].notna().all()
    for seed, secs in enumerate((0.5, 0.4)):
        add("colt_plus", "my_kernel", seed, secs)
        add("paper", "my_kernel", seed, 0.6 + 0.1 * seed)
    assert set(table()["interval"]) == {KNOWN}


def test_an_interval_is_never_a_point(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    for search, secs in (("colt_plus", 0.25), ("paper", 0.25), ("evolutionary", 0.5)):
        for seed in range(3):
            add(search, "flux_conv", seed, secs)
    found = table()
    assert not (found["low"] == found["high"]).any()
    assert set(found.query("quantity != @IMPROVEMENT")["interval"]) == {EQUAL}, "runs that do not differ tell no spread"


def test_each_pair_of_model_sets_stands_once_but_one_seed_gives_neither_pairs_nor_intervals(
    write_run: WriteRun, table: Callable[[], pd.DataFrame]
) -> None:
    def add(seed: int) -> None:
        for model_set, secs in (("2", 0.5), ("mine", 0.25), ("other", 0.125)):
            write_run(f"{model_set}-{seed}", TWO, (secs,), model_set=model_set, seed=seed)

    add(0)
    found = table()
    assert set(found["quantity"]) == {SHARE, AREA, EFFICIENCY}
    assert set(found["interval"]) == {FEW} and found[["low", "high"]].isna().all(axis=None)
    add(1)
    pairs = table().query("quantity == @IMPROVEMENT")
    assert len(pairs) == 3 and set(pairs["value"]) == {0.0}


def test_a_missing_run_leaves_values_unknown_and_is_told_from_a_single_seed(
    add: AddRun, table: Callable[[], pd.DataFrame]
) -> None:
    for seed in (0, 1):
        add("colt_plus", "flux_conv", seed, 0.5 - 0.1 * seed)
        add("colt_plus", "my_kernel", seed, 0.5)
        add("paper", "flux_conv", seed, 0.5)
    found = table()
    missing = found[(found["configuration"] == PAPERS) | found["over"].notna()]
    assert missing["value"].isna().all() and set(missing["interval"]) == {MISSING}
    assert row(found, SHARE, OURS)["interval"] == KNOWN


def test_an_exhausted_search_is_divided_by_the_samples_it_took(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    add("colt_plus", "flux_conv", 0, 0.5, 0.25, 0.25, 0.25)
    add("paper", "flux_conv", 0, 0.5, stopped="exhausted")
    found = table()
    assert row(found, EFFICIENCY, OURS)["value"] == pytest.approx(1.0)
    assert row(found, EFFICIENCY, PAPERS)["value"] == pytest.approx(2.0)


def test_a_search_without_samples_leaves_its_values_unknown_and_the_others_known(
    add: AddRun, table: Callable[[], pd.DataFrame]
) -> None:
    add("colt_plus", "flux_conv", 0, 0.5, 0.25)
    add("evolutionary", "flux_conv", 0, stopped="exhausted")
    found = table()
    assert row(found, EFFICIENCY, OURS)["value"] == pytest.approx(4 / 2)
    assert row(found, SHARE, OURS)["value"] == pytest.approx(1)
    for quantity in (SHARE, EFFICIENCY):
        assert math.isnan(row(found, quantity, TVM)["value"])
        assert row(found, quantity, TVM)["interval"] == MISSING


def test_targets_are_not_compared_with_each_other(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    for target in ("cpu", "gpu"):
        for search in ("colt_plus", "paper"):
            for seed in range(2):
                add(search, "flux_conv", seed, 0.5, target=target)
    found = table()
    pairs = found.loc[found["quantity"] == IMPROVEMENT, ["configuration", "over"]]
    assert [tuple(pair) for pair in pairs.to_numpy()] == [
        (f"{OURS}, target={target}", f"{PAPERS}, target={target}") for target in ("cpu", "gpu")
    ]


def test_the_table_repeats(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    for seed in range(3):
        add("colt_plus", "flux_conv", seed, 0.5 / (seed + 1))
        add("paper", "flux_conv", seed, 0.5)
    pd.testing.assert_frame_equal(table(), table())
