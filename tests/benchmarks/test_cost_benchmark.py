"""The cost of the paper's protocol: arithmetic on a toy, and a tiny recorded run counted as if asked live."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.config.schema import PricesConfig, RecordConfig
from colt_pipeline.errors import ConfigError
from colt_pipeline.runs.costs import Tokens
from colt_pipeline.runs.events import Stepped
from stages.benchmarks import cost
from stages.benchmarks.cost import Replayed, replayed, table
from stages.benchmarks.hashes import HashMeasurer
from tests.small_runs import PROJECTION, play
from tests.support import Compose

pytestmark = pytest.mark.tvm

SHORT = (*PROJECTION[1:], "search=paper", "search.sample=program", "search.warmup_samples=8", "samples=16")
PRICES = {
    "big": PricesConfig(input=2.0, output=10.0, date="", source=""),
    "little": PricesConfig(input=0.2, output=1.0, date="", source=""),
}
LONGEST = dict.fromkeys(PRICES, 1000)


class ThisProcess:
    """A process pool that starts no processes."""

    map = staticmethod(map)

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> ThisProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def toy() -> dict[tuple[str, str], Replayed]:
    """Two workloads: with the large model alone, and with a set in which it gets one call in four."""
    runs = {}
    for workload, scale in (("first", 1), ("second", 3)):
        tokens = Tokens(1000 * scale, 50)
        runs[workload, "large"] = Replayed(10, {"full": {"big": [tokens] * 8}})
        runs[workload, "2"] = Replayed(10, {"full": {"big": [tokens] * 2, "little": [tokens] * 6}})
    return runs


def test_scaling_prices_ratio_and_sum_of_a_toy() -> None:
    rows = table(toy(), samples=100, prices=PRICES, longest_tokens=LONGEST)
    by = {(row["workload"], row["model_set"]): row for row in rows}
    large, two = by["first", "large"], by["first", "2"]
    assert (large["calls"], large["prompt_tokens_est"], large["completion_tokens_est"]) == (80, 80_000, 4_000)
    assert (large["usd_est"], large["usd_if_longest_answers"], large["usd_over_large"]) == (0.2, 0.96, 1.0)
    assert (two["usd_est"], two["usd_over_large"]) == (0.065, 0.325), "a quarter at 0.2 and three at a tenth of it"
    both = by["all 2", "large"]
    assert (both["calls"], both["prompt_tokens_est"], both["usd_est"]) == (160, 320_000, 0.72)
    assert [row["workload"] for row in rows] == [*["first"] * 2, *["second"] * 2, *["all 2"] * 2]
    assert {row["basis"] for row in rows} == {"estimate: stand-in LLMs, 10 samples scaled to 100, 4 characters a token"}


def test_five_workloads_are_called_all_five() -> None:
    one = Replayed(1, {"full": {"big": [Tokens(1, 1)]}})
    rows = table({(name, "large"): one for name in "abcde"}, 1, PRICES, dict.fromkeys(PRICES, 1))
    assert (rows[-1]["workload"], rows[-1]["calls"]) == ("all five", 5)


def test_a_model_without_a_price_is_a_message() -> None:
    with pytest.raises(ConfigError, match=r"give models\.little\.prices"):
        table(toy(), 100, {**PRICES, "little": None}, LONGEST)


def test_a_recorded_run_is_counted_as_the_models_would_be_asked(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = composed(PROJECTION[0], "model_set=4", *SHORT, "record=replay")
    job = play(replace(four, record=RecordConfig("missing")), HashMeasurer)
    counted = replayed(four)

    calls = [call for event in job.journal.events if isinstance(event, Stepped) for call in event.calls]
    full, compact = counted.calls["outline"], counted.calls["compact"]
    assert counted.samples == 16
    assert {name: len(seen) for name, seen in full.items() if seen} == Counter(call.model for call in calls)
    for name, seen in full.items():
        recorded = [Tokens(call.prompt_tokens, call.completion_tokens) for call in calls if call.model == name]
        assert [t.completion for t in seen] == [t.completion for t in recorded]
        if four.models[name].json_schema:
            assert all(t.prompt > r.prompt for t, r in zip(seen, recorded, strict=True)), "the schema comes on top"
        else:
            assert seen == recorded
        assert all(c.prompt <= f.prompt for c, f in zip(compact[name], seen, strict=True))
        assert [t.completion for t in compact[name]] == [t.completion for t in seen]

    monkeypatch.setattr(cost, "ProcessPoolExecutor", ThisProcess)
    monkeypatch.setattr(cost, "MODEL_SETS", ("4",))
    monkeypatch.setattr(cost, "LARGE", "4")
    monkeypatch.setattr(cost, "replayed", lambda _: counted)
    out = tmp_path / "out"
    command = ["--results", four.results, "--experiment", "adhoc", "--workloads", four.workload.name]
    assert cost.main([*command, "--out", str(out), *SHORT]) == 0
    with (out / "cost.csv").open() as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    first = rows[0]
    assert [(row["model_set"], row["prompt"]) for row in rows] == [("4", "outline"), ("4", "compact")] * 2
    assert (first["workload"], int(first["calls"])) == (four.workload.name, round(len(calls) * 1000 / 16))
    assert 0 < float(first["usd_est"]) < float(first["usd_if_longest_answers"])


def test_a_missing_recording_is_a_message_and_nothing_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost, "ProcessPoolExecutor", None)
    (tmp_path / "recordings").mkdir()
    command = ["--results", str(tmp_path), "--workloads", "flux_conv", "--out", str(tmp_path / "out")]
    assert cost.main(command) == 1
    message = capsys.readouterr().err
    assert "replay of cpu/flux_conv/cpu-paper-small-gpt-5.2-n64-s0 needs its recording" in message
    assert str(tmp_path / "recordings") in message and not (tmp_path / "out").exists()
