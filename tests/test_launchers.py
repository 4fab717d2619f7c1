"""Replays give the same bytes under every installed Hydra launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

LAUNCHERS = {
    "submitit_local": "hydra_submitit_launcher",
    "ray": "hydra_ray_launcher",
}
"""``hydra/launcher=`` -> its plugin. `dvc repro` uses joblib to replay what is committed."""
INSTALLED = [name for name in LAUNCHERS if find_spec("hydra_plugins") and find_spec(f"hydra_plugins.{LAUNCHERS[name]}")]
MORE = {"ray": ("+hydra.launcher.ray.init.include_dashboard=false",)}


def tuned(results: Path, *overrides: str) -> str:
    """Tune with two model sets; returns what was printed at the end."""
    chosen = ("model_set=small,2", f"results={results}", f"hydra.sweep.dir={results}/logs")
    command = [sys.executable, "-m", "colt_pipeline.tune", "--multirun", *chosen, *overrides]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_USAGE_STATS_ENABLED"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def replayed(results: Path, *overrides: str) -> dict[str, bytes]:
    """Path -> contents of the files that two recorded runs wrote."""
    results.mkdir()
    (results / "recordings").symlink_to(ROOT / "results" / "recordings")
    tuned(results, "experiment=cpu", "record=replay", "workload=llama4_scout_mlp", *overrides)
    runs = results / "runs"
    return {str(path.relative_to(runs)): path.read_bytes() for path in sorted(runs.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return replayed(tmp_path_factory.mktemp("basic") / "results")


@pytest.mark.skipif(not INSTALLED, reason="no launcher is installed (extras submitit, ray)")
@pytest.mark.parametrize("launcher", INSTALLED)
def test_a_launcher_changes_no_byte(launcher: str, basic: dict[str, bytes], tmp_path: Path) -> None:
    found = replayed(tmp_path / "results", f"hydra/launcher={launcher}", *MORE.get(launcher, ()))
    assert {path.rpartition("/")[2] for path in found} >= {"events.jsonl", "summary.json", "config.yaml"}
    assert found == basic


def test_the_table_at_the_end_lists_runs_of_other_processes(tmp_path: Path) -> None:
    small = (
        "workload=deepseek_r1_moe",
        "workload.shape.inner=128",
        "search=paper",
        "search.sample=program",
        "samples=4",
    )
    said = tuned(tmp_path / "results", "hydra/launcher=joblib", *small, "target=h100", "device=estimate").splitlines()
    runs = [line.split()[0] for line in said if line.startswith("deepseek_r1_moe/")]
    assert runs == [f"deepseek_r1_moe/h100-paper-{models}-gpt-5.2-n4-s0" for models in ("small", "2")]
    assert any(line.startswith("LLM backend: embedded (stand-ins for the named models)") for line in said)
