"""The benchmarks' arithmetic and rows; slow ones run at tiny sizes, and no timing is asserted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from colt_pipeline.errors import ConfigError
from colt_pipeline.measurement.backend import local
from colt_pipeline.workloads.catalogue import build
from stages.benchmarks import growth, limits, micro, pace, redaction, steps
from stages.benchmarks import recorded as recorded_schedules
from stages.benchmarks.growth import Lap
from stages.benchmarks.limits import Limits
from stages.benchmarks.rounds import in_turn, medians, own_process
from tests.small_runs import TINY
from tests.support import SMALL, Compose, Recorded

pytestmark = pytest.mark.tvm

MACHINE = Limits(flop_per_sec=100e9, memory_bytes_per_sec=10e9, cache_bytes_per_sec=40e9, cache_bytes=1 << 20)


@pytest.mark.parametrize(
    ("flop", "data_bytes", "secs", "bound"),
    [
        (10**9, 10**6, 0.01, "compute"),
        (10**6, 10**8, 0.01, "memory"),
        (10**6, 10**6, 25e-6, "cache"),
        (10**6, 2**20 + 1, (2**20 + 1) / 10e9, "memory"),
    ],
)
def test_the_roofline_is_the_longer_of_computing_and_moving(
    flop: int, data_bytes: int, secs: float, bound: str
) -> None:
    assert MACHINE.roofline(flop, data_bytes) == (pytest.approx(secs), bound)


def test_a_share_of_the_roofline() -> None:
    row = limits.row(MACHINE, "product", flop=10**9, data_bytes=10**6, secs=0.04)
    assert (row["gflops"], row["roofline_ms"], row["share"], row["bound"]) == (25.0, 10.0, 0.25, "compute")


def test_every_hostile_text_is_redacted_at_two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(redaction, "redacted", lambda text: sizes.append(len(text)))
    times = iter(range(10**6))
    monkeypatch.setattr("time.process_time", lambda: float(next(times)))
    rows = redaction.rows(kib=1, rounds=3)
    assert [row["repeated"] for row in rows] == [text.strip() for text in redaction.REPEATED]
    assert all((row["ms"], row["ms_at_8x"], row["ratio"]) == (1000.0, 1000.0, 1.0) for row in rows)
    assert all(1024 <= short < 1100 and long == 8 * short for short, long in zip(sizes[::2], sizes[1::2], strict=True))


def test_subjects_take_turns_and_their_medians_count() -> None:
    turns: list[str] = []
    values = {"a": iter([3.0, 1.0, 2.0]), "b": iter([30.0, 10.0, 50.0])}

    def subject(name: str) -> float:
        turns.append(name)
        return next(values[name])

    found = medians({name: lambda name=name: subject(name) for name in values}, 3, "test-rounds")  # type: ignore[misc]
    assert turns == ["a", "b"] * 3
    assert found == {"a": 2.0, "b": 30.0}


def test_the_kernels_at_the_limits_do_all_their_work(composed: Compose) -> None:
    config = composed("measure.max_repeats=3", "measure.budget_secs=0")
    target = local(config).target
    with own_process() as process:  # each checks its result, which would be wrong if the loop had been optimized away
        assert process.submit(micro.flop_per_sec, target, config.measure).result() > 0
        assert process.submit(micro.bytes_per_sec, target, 1, config.measure).result() > 0


def test_limits_of_a_recorded_schedule(composed: Compose, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_schedules, "composed", lambda overrides: composed(*TINY, *overrides))
    monkeypatch.setattr(limits, "composed", lambda _: composed("measure.max_repeats=3", "measure.budget_secs=0"))
    monkeypatch.setattr(limits, "_MEMORY_MIB", 1)
    (row,) = limits.rows(Path(recorded(*TINY).config.results) / "runs", ["deepseek_r1_moe"], rounds=1)
    assert row["workload"] == "deepseek_r1_moe"
    assert all(float(str(row[key])) > 0 for key in ("latency_ms", "gflops", "share", "peak_gflops"))
    assert row["data_mib"] == round(4 * (16 * 128 + 128 * 64 + 16 * 64) / 2**20, 2)


def test_no_finished_run_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--runs", str(tmp_path), "--workloads", "flux_conv", "--out", str(tmp_path / "out")]
    assert limits.main(arguments) == 1
    assert "holds no finished run of flux_conv" in capsys.readouterr().err


def test_subjects_with_threads_rest_before_their_turn_and_are_warm_when_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now, log, durations = [0.0], [], {"a": 0.011, "b": 0.03}

    def sleep(secs: float) -> None:
        log.append("pause")
        now[0] += secs

    def subject(name: str) -> None:
        log.append(name)
        now[0] += durations[name]

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    found = in_turn({name: lambda name=name: subject(name) for name in durations}, 2)  # type: ignore[misc]
    assert found == {name: pytest.approx(secs) for name, secs in durations.items()}
    a, b = ["pause", *["a"] * 4], ["pause", *["b"] * 2]  # 0.02 s of calls to warm up, and as many that are timed
    assert log[-16:] == [*a, *b, *b, *a]


def test_the_fastest_confirmed_run_of_a_kernel_is_the_best(composed: Compose, tmp_path: Path) -> None:
    workload = build("deepseek_r1_moe", SMALL["deepseek_r1_moe"])
    backend = local(composed())

    def finished(name: str, best_secs: float, device: str = backend.device.slug, **more: object) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        summary = {"device": device, "best_secs": best_secs, **more}
        (directory / "summary.json").write_text(json.dumps(summary))
        (directory / "best.json").write_text(json.dumps({"workload_hash": workload.hash, "target": backend.target}))
        return directory

    assert recorded_schedules.best_run(tmp_path, workload, backend) is None
    finished("lucky", 0.001, confirmed_secs=0.004)
    best = finished("steady", 0.002, confirmed_secs=0.003)
    finished("elsewhere", 0.0001, device="another-cpu")
    assert recorded_schedules.best_run(tmp_path, workload, backend) == best
    other = build("flux_conv", SMALL["flux_conv"])
    assert recorded_schedules.best_run(tmp_path, other, backend) is None


def test_limits_measured_in_one_sitting_are_medians() -> None:
    slow, fast = replace(MACHINE, flop_per_sec=50e9), replace(MACHINE, memory_bytes_per_sec=30e9)
    assert limits.middle([slow, MACHINE, fast]) == MACHINE


def test_growth_compares_the_last_tenth_with_the_first() -> None:
    mib = 2**20
    laps = [Lap(0, 0.0, 0.0, 100 * mib, is_step=False)]
    laps += [Lap(n, 0.01 if n < 10 else 0.02, 0.01, (101 + n) * mib, n < 90 or n % 2 == 0) for n in range(100)]
    laps += [Lap(100, 5.0, 5.0, 900 * mib)]  # the end of the search is not a sample
    *tenths, ratio = growth.table(laps, 100)
    assert [row["samples"] for row in tenths][:2] == ["1 to 10", "11 to 20"]
    assert (tenths[0]["search_ms"], tenths[0]["with_training_ms"], tenths[0]["since_start_mib"]) == (10.0, 20.0, 10.0)
    assert (tenths[-1]["search_ms"], tenths[-1]["memory_mib"]) == (20.0, 200.0)
    assert (ratio["search_ms"], ratio["with_training_ms"], ratio["step_ms"]) == (2.0, 1.5, 3.0)


def test_a_step_is_the_median_and_its_share_of_drafts_and_training() -> None:
    row = steps.table([0.01, 0.02, 0.5, 0.02], drafting_secs=0.4, training_secs=0.1)
    assert (row["steps"], row["step_ms"], row["drafting_ms"], row["training_ms"]) == (4, 20.0, 100.0, 25.0)
    assert row["together_ms"] == 145.0


def test_steps_of_short_searches() -> None:
    rows = steps.rows(["llama3_8b_attention"], ["tvm", "extended"], 9, ())
    assert [row["space"] for row in rows] == ["tvm", "extended"]
    assert all(float(str(row["step_ms"])) > 0 and int(str(row["steps"])) >= 5 for row in rows)


def test_growth_of_a_short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_PARTS", 2)
    with pytest.raises(ConfigError, match="at least 20"):
        growth.rows(["llama3_8b_attention"], "8", 19, ())
    with monkeypatch.context() as patch, pytest.raises(ConfigError, match="search ended after 15 of 20 samples"):
        patch.setattr(growth, "_laps", lambda config: [Lap(0, 0.1, 0.1, 1), Lap(15, 0.1, 0.1, 1)])
        growth.rows(["llama3_8b_attention"], "8", 20, ())
    rows = growth.rows(["llama3_8b_attention"], "8", 20, ())
    assert [row["samples"] for row in rows] == ["1 to 10", "11 to 20", "last / first"]
    assert all(np.isfinite(float(str(row["search_ms"]))) for row in rows)
    assert {row["latencies"] for row in rows[:-1]} == {"computed from a hash (stand-in)"}


def test_the_pace_of_searches_is_a_median_over_seeds_without_the_confirmation(tmp_path: Path) -> None:
    for workload, search, seed, total in (
        *(("flux_conv", "colt_plus", seed, 10.0 * (1 + seed)) for seed in range(3)),
        *((workload, "evolutionary_8", 0, 80.0) for workload in ("flux_conv", "depthwise_conv")),
        ("depthwise_conv", "colt_plus", 0, 5.0),
    ):
        run = tmp_path / workload / f"{search}-{seed}"
        run.mkdir(parents=True)
        (run / "summary.json").write_text(json.dumps({"workload": workload, "search": search, "samples": 20}))
        (run / "timing.json").write_text(json.dumps({"total": total, "measure": 4.0, "confirm": 100.0}))
    (tmp_path / "flux_conv" / "replayed").mkdir()
    table = pace.rows(tmp_path)
    assert [(r["workload"], r["search"], r["secs_per_sample"], r.get("measuring")) for r in table] == [
        ("flux_conv", "colt_plus", 1.0, 0.2),
        ("flux_conv", "evolutionary_8", 4.0, 0.2),
        ("depthwise_conv", "colt_plus", 0.25, 0.2),
        ("depthwise_conv", "evolutionary_8", 4.0, 0.2),
        (pace.ALL, "colt_plus", 0.5, None),
        (pace.ALL, "evolutionary_8", 4.0, None),
    ]


def test_replays_have_no_pace(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has a timing\.json: replays measure no time"):
        pace.rows(tmp_path)
