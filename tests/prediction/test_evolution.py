"""TVM's evolutionary search: defaults, recording and resuming."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tvm.s_tir import meta_schedule as ms

from colt_pipeline import assemble as assembly
from colt_pipeline.analysis.compared import key
from colt_pipeline.analysis.labels import configurations
from colt_pipeline.analysis.tidy import aggregate
from colt_pipeline.config.schema import Config, EvolutionConfig
from colt_pipeline.errors import RecordingError, ReplayMissError, SpaceError
from colt_pipeline.prediction.evolution import SCHEMA, Evolution, TvmEvolution
from colt_pipeline.prediction.pretrained import PretrainedModel
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.serialization import digest
from colt_pipeline.space import Program, Space
from colt_pipeline.workloads.catalogue import build
from tests.small_runs import journal, move_recordings, play
from tests.space.small import CPU, SHAPES, space
from tests.support import ROOT, Compose, Recorded, configured

pytestmark = pytest.mark.tvm

RUN = (
    "search=evolutionary",
    "workload=deepseek_r1_moe",
    "workload.shape.inner=128",
    "workload.shape.outer=64",
    "search.batch_size=4",
    "search.warmup_samples=8",
    "samples=20",
    "run=bred",
    "search.evolution.num_trials_per_iter=8",
    "search.evolution.population_size=24",
    "search.evolution.init_measured_ratio=0.5",
    "search.evolution.init_min_unmeasured=8",
    "search.evolution.genetic_num_iters=1",
    "search.evolution.eps_greedy=0.25",
)


ELSEWHERE = [["GetSBlock", [], ["elsewhere", "main"], ["b0"]]]
"""What selects a block that the workload does not have."""


def quick() -> EvolutionConfig:
    """Settings for small populations."""
    settings = configured(*RUN).search.evolution
    assert settings is not None
    return settings


def recording(config: Config) -> Path:
    return next((Path(config.results) / "recordings").rglob("candidates.jsonl"))


def timed(programs: Sequence[Program]) -> list[tuple[Program, Sample]]:
    """Measurements in which a program's latency follows from its key, and every fifth program fails."""
    return [
        (p, Sample(p.key, None, "timeout") if n % 5 == 4 else Sample(p.key, 1e-3 + int(p.key[:6], 16) * 1e-9, None))
        for n, p in enumerate(programs)
    ]


def test_the_settings_are_the_defaults_of_tvm(composed: Compose) -> None:
    search = composed("search=evolutionary").search
    ours = dict(vars(search.evolution)) if search.evolution else {}
    assert ours.pop("num_trials_per_iter") == inspect.signature(ms.tune_tir).parameters["num_trials_per_iter"].default
    strategy = ms.search_strategy.EvolutionarySearch()
    assert ours == {name: getattr(strategy, name) for name in ours}
    assert set(ours) == set(inspect.signature(ms.search_strategy.EvolutionarySearch.__init__).parameters) - {"self"}
    assert search.warmup_samples == ms.cost_model.XGBModel().num_warmup_samples


def test_another_cost_model_ranks_and_learns_in_place_of_tvms() -> None:
    here = space("deepseek_r1_moe")
    model = PretrainedModel(here, 8, [], Stopwatch())
    rated: list[int] = []
    learned: list[tuple[str, float | None]] = []

    def rate(context: Any, candidates: Sequence[Any]) -> list[float]:
        rated.append(len(candidates))
        return [float(n) for n in range(len(candidates))]

    def update(programs: Sequence[Program], samples: Sequence[Sample]) -> None:
        learned.extend((program.key, sample.latency_secs) for program, sample in zip(programs, samples, strict=True))

    model.rate, model.update = rate, update  # type: ignore[method-assign]
    strategy = TvmEvolution(here, quick(), 8, 16, model)
    first = timed(strategy.next_batch([]))
    second = timed(strategy.next_batch(first))
    assert first and second and not {p.key for p, _ in first} & {p.key for p, _ in second}
    assert max(rated) >= 24, "whole populations"
    assert learned == [(sample.program, sample.latency_secs) for _, sample in first]


def test_batches_are_new_and_end_with_the_samples() -> None:
    here = space("deepseek_r1_moe")
    evolution = TvmEvolution(here, quick(), warmup_samples=8, samples=20)
    measured: list[tuple[Program, Sample]] = []
    sizes = []
    while batch := evolution.next_batch(measured):
        sizes.append(len(batch))
        measured += timed(batch)
    assert max(sizes) <= 8 and sum(sizes) == 20  # TVM's batch is one short if it picked a program twice
    assert len({p.key for p, _ in measured}) == 20
    assert evolution.next_batch(measured) == []


def test_a_fresh_strategy_goes_on_from_the_measurements_and_repeats_none() -> None:
    here = space("deepseek_r1_moe")
    settings = replace(quick(), init_measured_ratio=1.0, init_min_unmeasured=0)
    measured = timed(TvmEvolution(here, quick(), warmup_samples=8, samples=16).next_batch([]))
    # Its whole population comes from the database, so breeding at all shows that it got the measurements.
    batch = TvmEvolution(here, settings, warmup_samples=8, samples=16).next_batch(measured)
    assert 0 < len(batch) <= 8
    assert not {p.key for p in batch} & {p.key for p, _ in measured}


def test_a_batch_has_no_more_programs_than_are_left_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    here = space("deepseek_r1_moe")
    programs = here.initial(6, np.random.default_rng(0))
    evolution = TvmEvolution(here, quick(), warmup_samples=8, samples=4)
    offered = [[SimpleNamespace(sch=p.schedule) for p in some] for some in (programs[:2], programs)]
    monkeypatch.setattr(ms.TuneContext, "generate_measure_candidates", lambda _: offered.pop(0))
    assert [p.key for p in evolution.next_batch(timed(programs[:2]))] == [p.key for p in programs[2:4]]


@pytest.mark.parametrize("additions", [("sound",), ("row_fusion", "sound")], ids=["TVM's designs", "row fusion"])
def test_batches_hold_what_the_space_holds(additions: tuple[str, ...]) -> None:
    """A third of what TVM draws in its designs of attention computes something else."""
    shapes = {**SHAPES["flux_attention"], "tokens": 64}
    here = Space(build("flux_attention", shapes).module, CPU, additions)
    batch = TvmEvolution(here, quick(), warmup_samples=8, samples=16).next_batch([])
    assert batch
    for program in batch:
        assert not here.refuses(program)
        assert here.rebuild(program.trace_json).key == program.key


def test_a_search_that_cannot_begin_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    evolution = TvmEvolution(space("deepseek_r1_moe"), quick(), warmup_samples=8, samples=8)
    monkeypatch.setattr(ms.TuneContext, "generate_measure_candidates", lambda _: None)
    assert evolution.next_batch([]) == []
    assert "too few valid programs" in caplog.text and "max_fail_count" in caplog.text


class Scripted:
    """A scripted strategy: one program per call, from a list."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = list(programs)

    def next_batch(self, measured: Sequence[tuple[Program, Sample]]) -> list[Program]:
        return self._programs[len(measured) : len(measured) + 1]


def test_the_recording_serves_what_was_asked_and_nothing_else(tmp_path: Path) -> None:
    here, path = space("deepseek_r1_moe"), tmp_path / "candidates.jsonl"
    programs = here.initial(2, np.random.default_rng(0))
    live = Evolution(path, here, {"samples": 2}, lambda: Scripted(programs), Stopwatch())  # type: ignore[arg-type,return-value]
    measured: list[tuple[Program, Sample]] = []
    for program in programs:
        assert [p.key for p in live.next_batch(measured)] == [program.key]
        measured += timed([program])
    assert live.next_batch(measured) == []
    assert live.asked == 3
    live.close()

    there = space("deepseek_r1_moe")  # has not seen any of the programs
    replay = Evolution(path, there, {"samples": 2}, None, Stopwatch())
    assert [p.key for p in replay.next_batch(measured[:1])] == [programs[1].key]
    assert replay.next_batch(measured) == []  # the end is recorded too
    slower = [(programs[0], Sample(programs[0].key, 9.0, None))]
    with pytest.raises(ReplayMissError, match="after 1 measured .* other settings or latencies"):
        replay.next_batch(slower)
    with pytest.raises(ReplayMissError, match="after 3 measured .*3 batches.*record=missing"):
        replay.next_batch([*measured, *slower])
    with pytest.raises(ReplayMissError, match="after 0 measured"):
        Evolution(path, there, {"samples": 3}, None, Stopwatch()).next_batch([])


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ({"key": "0", "measured": 0}, RecordingError, "line 1: .*instructions"),
        ({"key": ["0"], "measured": 0, "instructions": [], "traces": []}, RecordingError, "line 1: .*key"),
        ({"key": "0", "measured": 0, "instructions": [], "traces": [[["0"], []]]}, RecordingError, "line 1: .*traces"),
        (
            {"key": "0", "measured": 0, "instructions": [["X"]], "traces": [[[0], []]]},
            RecordingError,
            "line 1: program 0",
        ),
        ({"key": "0", "measured": 0, "instructions": [], "traces": [[[0], []]]}, RecordingError, "instruction 0 of 0"),
        ({"key": None, "measured": 0, "instructions": ELSEWHERE, "traces": [[[0], []]]}, SpaceError, "no design space"),
        ({"key": None, "measured": 0, "instructions": [], "traces": [[[], []]]}, SpaceError, "no design space"),
    ],
)
def test_a_broken_recording_is_an_error(
    tmp_path: Path, line: dict[str, Any], kind: type[Exception], message: str
) -> None:
    path = tmp_path / "candidates.jsonl"
    path.write_text(json.dumps({**line, "key": line["key"] or digest([SCHEMA, {}, []])}) + "\n")
    here = space("deepseek_r1_moe")
    with pytest.raises(kind, match=message):
        Evolution(path, here, {}, None, Stopwatch()).next_batch([])


def test_a_planted_annotation_ends_the_run_before_anything_is_built(
    composed: Compose, recorded: Recorded, tmp_path: Path
) -> None:
    config = composed(*RUN)
    move_recordings(recorded(*RUN).config, config)
    path = recording(config)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    batch = lines[1]
    planted = ["Annotate", ["b0", '"define void @f() {\n}\n"'], ["pragma_import_llvm"], []]
    batch["traces"][2][0].append(len(batch["instructions"]))
    batch["instructions"].append(planted)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for mode in ("replay", "missing"):
        config.record.mode = mode
        with pytest.raises(RecordingError, match=r"candidates.jsonl, line 2: program 2: .*'pragma_import_llvm'"):
            play(config, lambda _: pytest.fail("something was to be measured"))
    assert not any(path.read_bytes() for path in Path(config.results).rglob("events.jsonl"))


@pytest.mark.parametrize("stop_after", [None, 2, 3, 6])
def test_a_run_records_resumes_and_replays_without_a_strategy(
    composed: Compose, tmp_path: Path, stop_after: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uninterrupted, or interrupted after the first or second batch was bred or partially measured."""
    config = composed(*RUN)
    asked, recorded = 0, b""
    if stop_after is not None:
        asked, recorded = play(config, stop_after=stop_after).asked, recording(config).read_bytes()
    job = play(config)
    assert job.state.finished == "budget"
    assert len({s.program for s in job.state.samples}) == len(job.state.samples) == 20
    assert recording(config).read_bytes().startswith(recorded)
    assert recording(config).read_bytes().count(b"\n") == asked + job.asked
    replay = composed(*RUN, f"results={tmp_path / 'replay'}", "record=replay")
    move_recordings(config, replay)
    monkeypatch.setattr(assembly, "TvmEvolution", None)
    again = play(replay)
    assert journal(replay) == journal(config)
    assert again.asked == again.evaluator.measured == 0


def test_a_batch_without_its_event_is_not_lost(composed: Compose, recorded: Recorded) -> None:
    """After a kill between a batch (on disk) and its event, the batch is used and TVM is not asked again."""
    config, parts = recorded(*RUN).config, composed(*RUN)
    move_recordings(config, parts)
    job = play(parts)
    assert journal(parts) == journal(config)
    assert job.asked == job.evaluator.measured == 0


def test_another_process_with_another_hash_seed_replays_the_same_and_shows_no_llm(
    composed: Compose, recorded: Recorded, tmp_path: Path
) -> None:
    config, replay = recorded(*RUN).config, composed(*RUN)
    move_recordings(config, replay)
    overrides = (*RUN, "record=replay", "model_set=2", f"results={replay.results}", f"hydra.run.dir={tmp_path}/logs")
    done = subprocess.run(
        [sys.executable, "-m", "colt_pipeline.tune", *overrides],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert done.returncode == 0, done.stderr
    assert journal(replay) == journal(config)
    assert "20/20 samples" in done.stderr and "no LLM" in done.stderr
    assert "LLM backend: none;" in done.stdout
    tidy = aggregate(Path(replay.results) / "runs")
    assert tidy.calls.empty and len(tidy.curves) == 20
    assert list(configurations(tidy)["label"]) == ["TVM's evolutionary search"]
    assert key(tidy).startswith("no LLM · measured latency")
    assert set(tidy.runs["random_samples"]) == {8}


def test_record_all_keeps_what_was_bred(composed: Compose, recorded: Recorded) -> None:
    config = composed(*RUN, "record=all")
    move_recordings(recorded(*RUN).config, config)
    again = play(config)
    assert again.asked == recording(config).read_bytes().count(b"\n") > 0
    assert len(list(recording(config).parent.glob("candidates.jsonl.1"))) == 1
