"""Whether experience from one machine serves another, on made-up machines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from colt_pipeline.errors import ConfigError
from colt_pipeline.prediction import pretrained
from colt_pipeline.prediction.experience_files import Origin, program_line, write_file
from colt_pipeline.prediction.pretrained import FEATURES
from stages.benchmarks.experience import rows

pytestmark = pytest.mark.tvm


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies that follow one feature need few of them."""
    monkeypatch.setattr(pretrained, "_ROUNDS", 20)


def write(directory: Path, mcpu: str, workload: str, feature: int, slower: float = 1.0, seed: int = 0) -> None:
    """Programs whose latency grows with one feature."""
    drawn = np.random.default_rng(seed).uniform(1, 10, size=(60, FEATURES)).astype(np.float32)
    latencies = [float(slower * 1e-3 * np.exp(row[feature] / 2)) for row in drawn]
    lines = {f"{n:020x}": program_line(*program) for n, program in enumerate(zip(latencies, drawn, strict=True))}
    target = {"kind": "llvm", "mcpu": mcpu, "num-cores": 2}
    write_file(directory, Origin(workload, workload * 64, f"cpu-{mcpu}", target, ()), lines)


def means_of(directory: Path) -> dict[str, float]:
    """Experience -> the mean over workloads on one of the machines."""
    wanted = ("znver3", "mean", "as they are")
    chosen = (row for row in rows([directory], 1) if (row["machine"], row["workload"], row["features"]) == wanted)
    return {str(row["experience"]): float(str(row["kendall_tau"])) for row in chosen}


def test_a_machine_that_is_slower_by_a_factor_teaches_as_much(tmp_path: Path) -> None:
    for number, workload in enumerate("ab"):
        write(tmp_path, "znver3", workload, 7, seed=number)
        write(tmp_path, "emeraldrapids", workload, 7, slower=50.0, seed=10 + number)
    means = means_of(tmp_path)
    assert means["other machine"] > 0.6
    assert means["both machines"] > 0.6


def test_a_machine_where_something_else_counts_teaches_nothing(tmp_path: Path) -> None:
    for number, workload in enumerate("ab"):
        write(tmp_path, "znver3", workload, 7, seed=number)
        write(tmp_path, "emeraldrapids", workload, 100, seed=10 + number)
    means = means_of(tmp_path)
    assert abs(means["other machine"]) < 0.3 < 0.6 < means["this machine"]


def test_one_machine_is_not_enough(tmp_path: Path) -> None:
    write(tmp_path, "znver3", "a", 7)
    with pytest.raises(ConfigError, match="the experience is of znver3, but it takes two"):
        rows([tmp_path], 1)
