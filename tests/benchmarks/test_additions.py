"""The ablation of the design space: its runs, its table, and how it continues."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.compare import compare
from colt_pipeline.config.schema import SpaceConfig
from stages.benchmarks import additions, tuned
from stages.benchmarks.hashes import HashMeasurer
from stages.benchmarks.programs import UNSEEN, softmax

pytestmark = pytest.mark.tvm


def test_every_switch_has_a_kernel_of_its_own_kind() -> None:
    assert {*additions.KERNELS} == {name for name, kind in SpaceConfig.__annotations__.items() if kind == "bool"}
    assert {*additions.KERNELS.values()} <= {*UNSEEN}


@pytest.mark.parametrize("switch", [*additions.KERNELS])
def test_two_spaces_differ_in_what_they_are_named_for(switch: str, tmp_path: Path) -> None:
    runs = {space: additions._run(tmp_path, switch, "colt", space, 8, 0, ()) for space in additions._SPACES}
    assert len({config.run for config in runs.values()}) == 2
    on = {space: {*config.space.additions} for space, config in runs.items()}
    assert on["with"] == ({switch} if switch == "sound" else {*additions.KERNELS})
    assert on["with"] - on["without"] == {*additions._off(switch)} >= {switch}
    assert runs["with"].measure.vector_math == (switch != "sound")
    assert runs["without"].measure.vector_math == (switch not in ("vector_math", "sound"))


def test_kernels_that_serve_two_switches_are_tuned_once_with_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(additions.KERNELS, "row_fusion", additions.KERNELS["packing"])
    first, second = (
        [additions._run(tmp_path, switch, "colt", space, 8, 0, ()).run for space in additions._SPACES]
        for switch in ("row_fusion", "packing")
    )
    assert [a == b for a, b in zip(first, second, strict=True)] == [False, True]


def summary(best: float | None, failed: int, **more: float) -> dict[str, Any]:
    return {"best_secs": best, "samples": 8, "sample_errors": {"wrong_result": failed} if failed else {}, **more}


def test_a_row_has_confirmed_latencies_their_ratios_and_failures() -> None:
    row = additions.row(
        "padding",
        "colt",
        8,
        {
            "without": [summary(0.001, 4, confirmed_secs=0.003), summary(0.003, 2)],
            "with": [summary(0.001, 0), summary(0.001, 0)],
        },
    )
    assert (row["without_ms"], row["with_ms"]) == (3.0, 1.0)
    assert (row["without/with"], row["seeds"]) == (3.0, 2)
    assert (row["without_failed"], row["with_failed"]) == (0.375, 0.0)


def test_a_space_in_which_nothing_runs_has_no_ratio() -> None:
    row = additions.row("sound", "colt", 8, {"without": [summary(None, 8)], "with": [summary(0.001, 0)]})
    assert (row["without_ms"], row["without/with"], row["without_failed"]) == (None, None, 1.0)


def test_unknown_switches_and_overrides_without_values_are_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert additions.main(["--switches", "magic", "--out", str(tmp_path)]) == 1
    assert "--switches=magic is unknown; choose from vector_math" in capsys.readouterr().err
    assert additions.main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path), "seed"]) == 1
    assert "seed is not an override; give KEY=VALUE" in capsys.readouterr().err


@pytest.mark.slow
def test_a_command_makes_a_row_per_search_and_measures_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[HashMeasurer] = []

    def measurer(*_: object) -> HashMeasurer:
        made.append(HashMeasurer())
        return made[-1]

    monkeypatch.setitem(UNSEEN, additions.KERNELS["vector_math"], lambda: softmax(4, 16).workload("softmax"))
    monkeypatch.setattr(tuned, "compare", partial(compare, make_measurer=measurer))
    arguments = ["--switches", "vector_math", "--samples", "3", "--runs", str(tmp_path / "runs"), "model_set=2"]
    assert additions.main([*arguments, "--out", str(tmp_path)]) == 0
    first = (tmp_path / "additions.csv").read_text()
    assert [line.split(",")[:6] for line in first.splitlines()[1:]] == [
        ["vector_math", "vector_math", "softmax_512x1024", search, "3", "1"] for search in additions.SEARCHES
    ]
    assert made and capsys.readouterr().out.startswith("switch")
    made.clear()
    assert additions.main([*arguments, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "additions.csv").read_text() == first and not made
