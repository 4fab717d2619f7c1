"""The thin stages: extraction is lossless and repeatable, errors are messages."""

import json
from pathlib import Path

import pytest
import tvm
import tvm_ffi
from support import ROOT

from colt_pipeline.workloads.catalogue import WORKLOADS, build
from stages import extract

pytestmark = pytest.mark.tvm


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
