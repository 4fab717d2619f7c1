"""Tables of whole models, from summaries made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.analysis.tables.end_to_end import model_key, model_table, read_models, task_table
from colt_pipeline.analysis.tables.files import read_tables
from colt_pipeline.errors import ConfigError
from stages import end_to_end


def summary(model_set: str, models: list[str], tuned_secs: float, samples: int) -> dict[str, Any]:
    row = {"shape": "4x4 -> 4x4", "flop": 2_000_000_000, "unoptimized_secs": 1.0}
    return {
        "model": "llama3_8b",
        "shape": {"layers": 32, "tokens": 16},
        "search": "colt_plus",
        "model_set": model_set,
        "largest": "gpt-5.2",
        "models": models,
        "llm_backend": "embedded",
        "measurement": "measured",
        "device": "box",
        "seed": 0,
        "samples": samples,
        "unoptimized_secs": 40.0,
        "speedup": 40 / tuned_secs,
        "unoptimized_how": "sum over kernels",
        "tuned_secs": tuned_secs,
        "tuned_how": "measured whole",
        "tuned_sum_secs": 2.0,
        "tasks": [
            row | {"task": "matmul", "weight": 32, "samples": samples, "tuned": True, "best_secs": 0.05},
            row | {"task": "softmax", "weight": 8, "samples": 0, "tuned": False, "best_secs": 0.05},
        ],
    }


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    names = [f"model{n}" for n in range(8)]
    for made in (summary("8", names, 2.0, 100), summary("small", ["gpt-5-mini"], 4.0, 200)):
        (tmp_path / "runs" / made["model_set"]).mkdir(parents=True)
        (tmp_path / "runs" / made["model_set"] / "model.json").write_text(json.dumps(made))
    return tmp_path / "runs"


def test_table_2_has_the_papers_beside_ours(runs: Path) -> None:
    table = model_table(read_models(runs))
    assert list(table["configuration"]) == ["gpt-5-mini (stand-in)", "COLT+ (8 models, stand-in)"]
    assert list(table["speedup"]) == [10, 20]
    assert list(table["sample efficiency"]) == pytest.approx([0.05, 0.2])
    assert list(table["gain"]) == pytest.approx([1, 4])
    assert list(table["paper: speedup"]) == [5.46, 7.16]
    assert table["paper: gain"].isna().tolist() == [True, False]
    assert set(table["unoptimized: how"]) == {"sum over kernels"}


def test_a_sum_over_kernels_stands_beside_a_sum_and_a_whole_beside_a_whole(runs: Path) -> None:
    table = model_table(read_models(runs))
    assert list(table["sum over tuned kernels (s)"]) == [2, 2]
    assert list(table["like-for-like speedup"]) == [20, 20], "40 s / 2 s"
    alike = [{**model, "unoptimized_how": "measured whole"} for model in read_models(runs)]
    assert list(model_table(alike)["like-for-like speedup"]) == [10, 20]


def test_stand_ins_among_real_models_are_named(runs: Path) -> None:
    mixed = [{**model, "llm_backend": "embedded, openai"} for model in read_models(runs)]
    assert model_table(mixed)["configuration"].iloc[1] == "COLT+ (8 models, stand-in)"
    assert model_key(mixed).startswith("stand-in LLMs, real LLMs via openai · ")


def test_without_the_small_model_there_is_no_gain(runs: Path) -> None:
    assert model_table(read_models(runs)[1:])["gain"].isna().all()


def test_every_seed_has_its_own_efficiency_and_gain() -> None:
    names = [f"model{n}" for n in range(8)]
    first = [summary("small", ["gpt-5-mini"], 4.0, 100), summary("8", names, 2.0, 100)]
    second = [{**model, "seed": 1, "speedup": speedup} for model, speedup in zip(first, (5.0, 40.0), strict=True)]
    table = model_table([*first, *second])
    assert list(table["sample efficiency"]) == pytest.approx([0.1, 0.2, 0.05, 0.4])
    assert list(table["gain"]) == pytest.approx([1, 2, 1, 8])


def test_shares_of_kernels_count_calls_and_the_untuned(runs: Path) -> None:
    table = task_table(read_models(runs)).query("configuration == 'COLT+ (8 models, stand-in)'")
    assert list(table["share (%)"]) == pytest.approx([80, 20])
    assert list(table["MFLOP"]) == [2000, 2000]


def test_the_stage_writes_captioned_tables(runs: Path, tmp_path: Path) -> None:
    assert end_to_end.main(["--runs", str(runs), "--out", str(tmp_path / "out")]) == 0
    assert list(read_tables(tmp_path / "out", "")) == ["table_2", "kernels"]
    for name in ("tables.md", "tables.tex"):
        text = (tmp_path / "out" / name).read_text()
        assert text.count("stand-in LLMs · measured latency") == text.count("share random weights") == 2
    assert (tmp_path / "out" / "table_2.csv").exists() and (tmp_path / "out" / "kernels.csv").exists()
    assert " · box · " in model_key(read_models(runs))


def test_what_dvc_compares_names_the_device_and_who_answered(runs: Path, tmp_path: Path) -> None:
    assert end_to_end.main(["--runs", str(runs), "--out", str(tmp_path / "out"), "--metrics", str(tmp_path / "m")]) == 0
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "m").iterdir()}
    assert {name: own["speedup"] for name, own in found.items()} == {
        "small": {"llama3_8b": 10},
        "8": {"llama3_8b": 20},
    }
    assert all((own["llm"], own["device"]) == ("stand-in LLMs", "box") for own in found.values())


def test_missing_broken_and_doubled_runs_are_messages(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished run of a whole model"):
        read_models(tmp_path / "empty")
    (runs / "again").mkdir()
    (runs / "again" / "model.json").write_text((runs / "8" / "model.json").read_text())
    with pytest.raises(ConfigError, match="two runs of llama3_8b, colt_plus, 8"):
        read_models(runs)
    (runs / "again" / "model.json").write_text("{}")
    with pytest.raises(ConfigError, match="is not the summary of a whole model"):
        read_models(runs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"samples": 0}, "samples"), ({"speedup": "x"}, "speedup"), ({"tasks": [5]}, "tasks"), ({"models": {}}, "models")],
)
def test_a_summary_with_other_types_is_named(runs: Path, changes: dict[str, Any], message: str) -> None:
    path = runs / "8" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ConfigError, match=rf"model\.json is not the summary of a whole model \({message}"):
        read_models(runs)
