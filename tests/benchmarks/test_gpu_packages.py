"""The GPU check runs with the packages of its list alone, as with a folder that `pip install --target` filled."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

LIST = ROOT / "stages" / "benchmarks" / "gpu" / "requirements.txt"

SEARCHES = """
import importlib, pkgutil, sys

import colt_pipeline.job, colt_pipeline.measurement.worker, colt_pipeline.tune, joblib, stages.benchmarks.gpu
from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.search.loop import search

for module in pkgutil.iter_modules(stages.benchmarks.gpu.__path__, "stages.benchmarks.gpu."):
    importlib.import_module(module.name)

common = ["workload.shape={batch: 1, tokens: 16, inner: 64, outer: 64}", "target=h100", "device=estimate", "samples=6",
          "search.warmup_samples=2", "model_set=8", "results=" + sys.argv[1]]
small = "{num_trials_per_iter: 4, population_size: 32, init_min_unmeasured: 8, genetic_num_iters: 1}"
for chosen in (["search=colt"], ["search=evolutionary", "search.evolution=" + small]):
    with assemble(composed(common + chosen)) as job:
        for _ in search(job.world, job.journal, job.state):
            pass
        assert len(job.state.samples) == 6, chosen
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_the_listed_packages_are_enough_and_all_are_used(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    listed = {_normal(line.partition("#")[0]) for line in LIST.read_text().splitlines()} - {""}
    for name in listed:
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (packages / top).symlink_to(Path(str(found.locate_file(top))))
    done = subprocess.run(
        [sys.executable, "-S", "-c", SEARCHES, str(tmp_path / "results")],  # -S: no site-packages
        env={"PYTHONPATH": f"{packages}:{ROOT}", "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    providers = packages_distributions()
    used = {_normal(name) for top in done.stdout.split() for name in providers.get(top, ())}
    assert listed <= used


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
