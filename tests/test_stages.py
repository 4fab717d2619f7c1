"""The stages: flags are parameters, extraction is lossless and repeatable, errors are messages."""

import json
import shutil
from pathlib import Path

import pytest
import tvm
import tvm_ffi

from colt_pipeline.prediction.experience_files import read_experience
from colt_pipeline.workloads.catalogue import WORKLOADS, build
from stages import command, extract, pretraining
from tests.small_runs import TINY
from tests.support import ROOT, Recorded

pytestmark = pytest.mark.tvm


def test_flags_are_the_parameters_of_a_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given: list[object] = []

    def stage(runs: Path, out: Path, recordings: Path | None = None, constraints: Path = Path("here")) -> None:
        given.extend((runs, out, recordings, constraints))

    assert command(stage)(["--out", "b", "--runs", "a"]) == 0
    assert given == [Path("a"), Path("b"), None, Path("here")]
    for wrong in (["--runs", "a"], ["--runs", "a", "--out", "b", "--models", "c"]):
        with pytest.raises(SystemExit):
            command(stage)(wrong)
    said = capsys.readouterr().err
    assert "required: --out" in said and "unrecognized arguments: --models" in said


def test_extract_writes_every_workload_and_repeats(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert extract.main(["--conf", str(ROOT / "conf" / "workload"), "--out", str(tmp_path / name)]) == 0
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == sorted(f"{name}{ending}" for name in WORKLOADS for ending in (".json", ".txt", ".facts.json"))
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_extracted_module_is_the_workload(tmp_path: Path) -> None:
    extract.main(["--conf", str(ROOT / "conf" / "workload"), "--out", str(tmp_path)])
    facts = json.loads((tmp_path / "flux_conv.facts.json").read_text())
    workload = build("flux_conv", facts["shape"])
    loaded = tvm.ir.load_json((tmp_path / "flux_conv.json").read_text())
    assert tvm_ffi.structural_equal(loaded, workload.module)
    assert (facts["hash"], facts["flop"]) == (workload.hash, workload.flop)
    assert (tmp_path / "flux_conv.txt").read_text() == workload.text + "\n"


def test_a_bad_workload_file_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.yaml").write_text("name: resnet\nshape: {}\n")
    assert extract.main(["--conf", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "workload.name=resnet is unknown" in capsys.readouterr().err


def test_what_runs_measured_becomes_experience_once_per_program(recorded: Recorded, tmp_path: Path) -> None:
    job = recorded(*TINY)
    runs, out = tmp_path / "runs", tmp_path / "out"
    for name in ("adhoc", "again"):
        shutil.copytree(Path(job.config.results) / "runs" / "adhoc", runs / name)
    assert pretraining.main(["--runs", str(runs), "--out", str(out)]) == 0
    assert [path.stem for path in out.iterdir()] == [job.workload.hash]
    (experience,) = read_experience(out, "another workload")
    assert experience.latencies == pytest.approx([sample.latency_secs for sample in job.state.samples])
