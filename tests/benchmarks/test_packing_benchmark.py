"""The benchmark of packed weights: what its rows say, from two runs' summaries made up for this test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.benchmarks import packing

COMMON = {"samples": 4, "search": "colt_plus", "llm_backend": "embedded", "device": "made-up"}


def summary(warm: float, cold: float) -> dict[str, Any]:
    return {**COMMON, "confirmed_secs": warm, "confirmed_cold_secs": cold}


def test_gains_are_of_packing() -> None:
    row = packing.row("llama3_8b_attention", summary(0.004, 0.009), summary(0.002, 0.006))
    assert (row["warm_ms"], row["warm_packed_ms"], row["warm_gain"]) == (4, 2, 2)
    assert (row["cold_ms"], row["cold_packed_ms"], row["cold_gain"]) == (9, 6, 1.5)
    assert "stand-in" in str(row["llm"]), "what answered is named"


def test_the_two_runs_are_of_different_workloads(tmp_path: Path) -> None:
    plain, packed = (packing._run(tmp_path, "deepseek_r1_moe", "extended", constant, 8, []) for constant in ([], [1]))
    assert (plain.workload.name, packed.workload.name) == ("deepseek_r1_moe", "deepseek_r1_moe-packed-1")
    assert plain.run != packed.run and plain.measure == packed.measure


def test_an_unknown_kernel_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert packing.main(["--out", str(tmp_path), "--kernels", "flux_conv"]) == 1
    assert "--kernels=flux_conv is unknown" in capsys.readouterr().err
