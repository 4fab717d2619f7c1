"""The app as a user runs it: real TVM, a deterministic measurer, real files."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tvm

from colt_pipeline import assemble as assembly
from colt_pipeline import job as jobs
from colt_pipeline.analysis.tidy import aggregate
from colt_pipeline.assemble import assemble
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import (
    ConfigError,
    DeviceError,
    DeviceMismatchError,
    RecordingError,
    ReplayMissError,
    RunDirError,
)
from colt_pipeline.job import write_outputs, written_since
from colt_pipeline.measurement import backend as backends
from colt_pipeline.measurement.devices import Device, host_cpu
from colt_pipeline.records import Measurement
from colt_pipeline.search.loop import search
from colt_pipeline.serialization import canonical_json, digest
from colt_pipeline.tune import run
from stages.benchmarks.hashes import HashMeasurer
from tests.small_runs import (
    ATTENTION,
    COLT,
    PAPER,
    PROJECTION,
    SHORT,
    TINY,
    colt,
    command,
    journal,
    move_recordings,
    play,
)
from tests.support import ROOT, Compose, Recorded, write_others

pytestmark = pytest.mark.tvm

SIZES = {
    "paper-projection": TINY,
    "paper-attention": (*ATTENTION, *PAPER),
    "colt-attention": (*ATTENTION, *COLT),
}
SEARCHES = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
MODES = ("replay", "missing")
FILES = ("best.json", "best.txt", "calls.csv", "config.yaml", "curve.csv", "events.jsonl", "summary.json", "turns.csv")


@SEARCHES
def test_run_equals_rerun_equals_replay(
    composed: Compose, recorded: Recorded, tmp_path: Path, size: tuple[str, ...]
) -> None:
    first, second = recorded(*size).config, composed(*size)
    play(second)
    replay = composed(*size, f"results={tmp_path / 'replay'}", "record=replay")
    move_recordings(first, replay)
    job = play(replay)
    assert journal(first) == journal(second) == journal(replay)
    assert job.cassette.asked == job.evaluator.measured == 0


@pytest.mark.parametrize(
    ("stop_after", "size"),
    [(2, "colt-attention"), (5, "paper-attention"), (5, "paper-projection"), (14, "colt-attention")],
)
def test_a_live_run_resumed_after_a_kill_asks_and_measures_nothing_twice(
    composed: Compose, recorded: Recorded, stop_after: int, size: str
) -> None:
    reference, parts = recorded(*SIZES[size]), composed(*SIZES[size])
    before, after = play(parts, stop_after=stop_after), play(parts)
    assert journal(parts) == journal(reference.config)
    assert before.cassette.asked + after.cassette.asked == reference.cassette.asked > 0
    measured = parts.samples + 1  # and the baseline
    assert before.evaluator.measured + after.evaluator.measured == reference.evaluator.measured == measured


@pytest.mark.parametrize("space", ["tvm", "extended"])
def test_a_run_killed_after_every_event_asks_and_draws_the_same(
    composed: Compose, others: Path, tmp_path: Path, space: str
) -> None:
    """Loops are so short that several traces give one program, of which a prompt shows the journal's."""
    size = (*PROJECTION, *COLT, "samples=10", "search=colt_plus", f"space={space}", f"pretraining={others}")
    whole, parts = (composed(*size, f"results={tmp_path / name}") for name in ("whole", "parts"))
    play(whole)
    while play(parts, stop_after=1).state.finished is None:
        pass
    assert journal(parts) == journal(whole)  # with the digests of all prompts


def test_a_search_with_experience_repeats_resumes_and_replays(
    composed: Compose, recorded: Recorded, tmp_path: Path
) -> None:
    write_others(tmp_path / "known", seed=1)
    colt = (*PROJECTION, *COLT, f"pretraining={tmp_path / 'known'}")
    first, again, parts, replay = (
        composed(*colt, f"results={tmp_path / name}", *more)
        for name, *more in (("first",), ("again",), ("parts",), ("replay", "record=replay"))
    )
    for config in (first, again):
        play(config)
    play(parts, stop_after=9)
    play(parts)
    move_recordings(first, replay)
    play(replay)
    assert journal(first) == journal(again) == journal(parts) == journal(replay)
    assert journal(recorded(*PROJECTION, *COLT).config) != journal(first)


def test_experience_with_the_workload_itself_is_not_used(
    composed: Compose, recorded: Recorded, others: Path, tmp_path: Path
) -> None:
    without = recorded(*PROJECTION, *COLT)
    shutil.copytree(others, tmp_path / "known")
    write_others(tmp_path / "known", without.workload.hash, seed=1)
    own = composed(*PROJECTION, *COLT, f"pretraining={tmp_path / 'known'}")
    play(own)
    assert journal(own) == journal(without.config)
    assert header(own) == header(without.config)


def ledger(config: Config) -> Path:
    (path,) = (Path(config.results) / "recordings").glob(f"*/{config.experiment}/{config.run}/measurements.jsonl")
    return path


def header(config: Config) -> dict[str, Any]:
    first: dict[str, Any] = json.loads(ledger(config).read_text().splitlines()[0])
    return first


@pytest.mark.parametrize("mode", MODES)
def test_a_run_continues_only_from_the_experience_that_it_started_from(
    composed: Compose, recorded: Recorded, tmp_path: Path, mode: str
) -> None:
    before = recorded(*PROJECTION, *COLT).config
    elsewhere = write_others(tmp_path / "elsewhere", seed=1)
    changed = composed(*PROJECTION, *COLT, f"pretraining={elsewhere}", f"record={mode}")
    move_recordings(before, changed)
    recording = ledger(changed).read_bytes()
    with pytest.raises(RecordingError) as raised:
        play(changed)
    there = header(before)["experience"][:12]
    for part in (str(ledger(changed)), there, str(elsewhere), "pretraining=DIR", "run=NAME"):
        assert part in str(raised.value)
    assert ledger(changed).read_bytes() == recording and not (Path(changed.results) / "runs").exists()
    from_nothing = composed(*PROJECTION, *COLT, "search.cost_model=xgb", f"record={mode}")
    with pytest.raises(RecordingError, match="starts from nothing"):
        play(from_nothing)


def test_a_recording_that_does_not_say_what_it_started_from_still_serves(
    composed: Compose, recorded: Recorded, tmp_path: Path
) -> None:
    before = recorded(*PROJECTION, *COLT).config
    replay, resumed = (composed(*PROJECTION, *COLT, f"results={tmp_path / m}", f"record={m}") for m in MODES)
    for config in (replay, resumed):
        move_recordings(before, config)
        first, rest = ledger(config).read_text().split("\n", 1)
        older = {key: value for key, value in json.loads(first).items() if key != "experience"}
        ledger(config).write_text(f"{canonical_json(older)}\n{rest}")
        job = play(config)
        assert journal(config) == journal(before) and not job.evaluator.measured


def test_only_the_runs_own_ledger_says_what_the_run_started_from(recorded: Recorded) -> None:
    config = recorded(*PROJECTION, *COLT).config
    (shared,) = (Path(config.results) / "recordings").glob("*/shared/*.jsonl")
    common = {key: value for key, value in header(config).items() if key != "experience"}
    assert json.loads(shared.read_text().splitlines()[0]) == common
    assert shared.stem.endswith(digest(common)[:12])
    assert "experience" not in header(recorded(*TINY).config)


@pytest.mark.parametrize("mode", ["replay", "missing", "all"])
def test_absent_experience_is_an_error_before_anything_is_written(composed: Compose, tmp_path: Path, mode: str) -> None:
    nowhere = composed(*PROJECTION, *COLT, f"pretraining={tmp_path / 'nowhere'}", f"record={mode}")
    with pytest.raises(ConfigError, match=r"nowhere is not a directory.*pretraining=DIR.*search\.cost_model=xgb"):
        play(nowhere)
    assert not Path(nowhere.results).exists()


def test_neither_the_working_directory_nor_chdir_changes_a_run(
    composed: Compose, recorded: Recorded, others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, project = recorded(*PROJECTION, *COLT).config, tmp_path / "project"
    shutil.copytree(others, project / "results/pretraining/extended")
    (project / "below").mkdir()
    (project / "dvc.yaml").touch()
    move_recordings(before, composed(f"results={project / 'results'}"))
    monkeypatch.chdir(project / "below")
    expected = (Path(before.results) / "runs/adhoc/tiny/config.yaml").read_bytes(), journal(before)
    for more in (["hydra.job.chdir=false"], ["hydra.mode=MULTIRUN", "hydra.job.chdir=true"]):
        replay = command(Path("results"), *more, *PROJECTION, *COLT, "record=replay")
        assert colt(monkeypatch, *replay, f"hydra.run.dir={tmp_path}/logs", f"hydra.sweep.dir={tmp_path}/logs") == 0
        run_directory = project / "results/runs/adhoc/tiny"
        assert tuple((run_directory / name).read_bytes() for name in ("config.yaml", "events.jsonl")) == expected
        shutil.rmtree(run_directory)
    assert not list((project / "below").iterdir())


def test_decisions_of_the_models_reach_the_journal(recorded: Recorded) -> None:
    job = recorded(*PROJECTION, *COLT, "space=tvm")  # the stand-ins decide tiles of TVM's form
    edits = [edit for call in job_calls(job.config) for edit in call["transformations"]]
    assert any(edit.startswith("TileSize(matmul.") for edit in edits)
    assert not sum(stats.rejections["bad_decision"] for stats in job.state.stats.values())
    assert not any("(" in edit for call in job_calls(recorded(*TINY).config) for edit in call["transformations"])


def job_calls(config: Config) -> list[dict[str, Any]]:
    """All calls in the run's journal."""
    return [call for line in journal(config).splitlines() for call in json.loads(line).get("calls", ())]


@pytest.mark.parametrize("search", ["random_proposer", "random_proposer_tvm"])
def test_random_answers_are_labelled_and_cost_nothing(composed: Compose, tmp_path: Path, search: str) -> None:
    config = composed(*PROJECTION, f"search={search}", *SHORT)
    job = play(config)
    assert job.cassette.asked == 0 and job.state.finished == "budget"
    write_outputs(job)
    calls = list(csv.DictReader((job.rundir.path / "calls.csv").read_text().splitlines()))
    assert {row["backend"] for row in calls} == {"random"} and len(calls) == 4
    assert {row["prompt_tokens"] for row in calls} == {"0"}
    assert sum(int(row["regular_calls"]) for row in calls) == len(job_calls(config)) - job_alterations(config) > 0
    assert json.loads((job.rundir.path / "summary.json").read_text())["llm_backend"] == "random"
    replay = composed(*PROJECTION, f"search={search}", *SHORT, f"results={tmp_path / 'replay'}", "record=replay")
    move_recordings(config, replay)
    play(replay)
    assert journal(replay) == journal(config)


def job_alterations(config: Config) -> int:
    return sum(call["role"] == "course_alteration" for call in job_calls(config))


def test_a_search_without_models_asks_none_and_lists_none(recorded: Recorded) -> None:
    job = recorded(*PROJECTION, "search=mcts_no_llm", *SHORT)
    assert job.cassette.asked == 0 and job.state.finished == "budget"
    summary = json.loads((job.rundir.path / "summary.json").read_text())
    assert summary["llm_backend"] == "none" and summary["small_model_calls"] == 0
    assert not list(csv.DictReader((job.rundir.path / "calls.csv").read_text().splitlines()))


def test_a_search_without_models_is_aggregated(recorded: Recorded) -> None:
    job = recorded(*PROJECTION, "search=mcts_no_llm", *SHORT)
    tidy = aggregate(Path(job.config.results) / "runs")
    assert list(tidy.runs["search"]) == ["mcts_no_llm"] and len(tidy.curves) == 20
    assert tidy.calls.empty


def test_answers_and_measurements_without_their_event_are_not_lost(composed: Compose, recorded: Recorded) -> None:
    """After a kill between an answer (on disk) and its event, the answer is used and not asked again."""
    reference, parts = recorded(*TINY), composed(*TINY)
    move_recordings(reference.config, parts)
    job = play(parts)
    assert journal(parts) == journal(reference.config)
    assert job.cassette.asked == job.evaluator.measured == 0 < reference.cassette.asked


def test_a_replay_builds_no_client_and_no_measurer(
    composed: Compose, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, replay = recorded(*TINY).config, composed(*TINY, "record=replay")
    move_recordings(live, replay)

    def never(*_: object) -> Any:
        raise AssertionError("a replay builds nothing")

    monkeypatch.setattr(assembly, "EmbeddedClient", never)
    monkeypatch.setattr(backends, "choose", never)
    play(replay, never)
    assert journal(replay) == journal(live)


def test_a_replay_says_how_many_answers_it_did_not_use(
    composed: Compose,
    recorded: Recorded,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "table_is_shown", lambda: True)
    replay = composed(*TINY, "record=replay")
    move_recordings(recorded(*TINY).config, replay)
    (recording,) = tmp_path.rglob("llm.jsonl")
    lines = recording.read_text().splitlines()
    with recording.open("a") as file:
        for occurrence in (8, 9):
            file.write(canonical_json(json.loads(lines[-1]) | {"occurrence": occurrence}) + "\n")
    run(replay)
    said = capsys.readouterr().err
    assert f"note: 2 answers of {recording} were not used by this run\n" in said
    assert "ETA" not in said, "on a terminal a table has it"
    recording.write_text("".join(line + "\n" for line in lines))
    run(replay)
    assert "not used" not in capsys.readouterr().err


def test_a_replay_of_another_configuration_misses_with_a_message(composed: Compose, recorded: Recorded) -> None:
    other = composed(*TINY, "record=replay", "search.rollout_length=2", "search.c=0.1")
    move_recordings(recorded(*TINY).config, other)
    with pytest.raises(ReplayMissError, match="record=missing"):
        play(other)


def test_a_replay_without_recordings_says_so(composed: Compose) -> None:
    with pytest.raises(RecordingError, match="there is no recordings directory"):
        play(composed(*TINY, "record=replay"))


def test_a_replay_of_an_unknown_run_says_so(composed: Compose, recorded: Recorded) -> None:
    other = composed(*TINY, "run=other", "record=replay")
    move_recordings(recorded(*TINY).config, other)
    with pytest.raises(RecordingError, match="replay of adhoc/other needs its recording .* found: none"):
        play(other)


def test_another_config_in_the_same_directory_is_refused(composed: Compose) -> None:
    config = composed(*TINY)
    play(config, stop_after=3)
    before = journal(config)
    with pytest.raises(RunDirError, match="seed: 0 there, 1 now"):
        play(composed(*TINY, "seed=1"))
    assert journal(config) == before


def test_record_all_keeps_what_was_there(composed: Compose, recorded: Recorded) -> None:
    config = composed(*TINY, "record=all")
    move_recordings(recorded(*TINY).config, config)
    again = play(config)
    assert again.cassette.asked > 0 and again.evaluator.measured == 21
    kept = list((Path(config.results) / "recordings").rglob("llm.jsonl.1"))
    assert len(kept) == 1 and kept[0].stat().st_size > 0


def test_equal_programs_of_two_runs_are_measured_once(composed: Compose) -> None:
    measurer = HashMeasurer()
    play(composed(*TINY, "run=first", "model_set=2"), lambda *_: measurer)
    once = len(measurer.seen)
    play(composed(*TINY, "run=second", "model_set=8"), lambda *_: measurer)
    assert len(measurer.seen) == len(set(measurer.seen)) < 2 * once  # the initial programs and the baseline are equal


def test_a_failed_baseline_ends_the_run_and_is_tried_again(composed: Compose) -> None:
    class Failing(HashMeasurer):
        def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
            yield from (Measurement(error="timeout", detail="the run took longer than 30 s") for _ in modules)

    config = composed(*TINY)
    with pytest.raises(DeviceError, match="the unoptimized deepseek_r1_moe failed: timeout"):
        play(config, Failing)
    assert play(config).state.finished == "budget"


def test_a_journal_of_another_device_is_not_continued(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(*TINY)
    play(config, stop_after=5)
    before = journal(config)
    elsewhere = Device({**host_cpu().facts, "cpu": "Another CPU"})
    monkeypatch.setattr(backends, "host_cpu", lambda cores: elsewhere)
    with pytest.raises(DeviceMismatchError, match="was started on"):
        play(composed(*TINY, "device=local"))
    with pytest.raises(ReplayMissError):  # auto: the recording of the other device, replayed
        play(config)
    assert journal(config) == before


def test_without_a_device_record_all_touches_no_recording(
    composed: Compose, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed(*TINY, "record=all")
    move_recordings(recorded(*TINY).config, config)
    before = sorted((Path(config.results) / "recordings").rglob("*.jsonl*"))

    def absent(*_: object) -> Any:
        raise DeviceError("nothing here gives latencies")

    monkeypatch.setattr(backends, "choose", absent)
    with pytest.raises(DeviceError):
        play(config)
    assert sorted((Path(config.results) / "recordings").rglob("*.jsonl*")) == before


def test_the_recording_of_another_device_is_replayed(
    composed: Compose, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, again = recorded(*TINY).config, composed(*TINY)
    move_recordings(config, again)
    monkeypatch.setattr(backends, "host_cpu", lambda cores: Device({**host_cpu().facts, "cpu": "Another CPU"}))
    job = play(again)
    assert journal(again) == journal(config)
    assert job.evaluator.measured == job.cassette.asked == 0
    assert job.source.startswith("recorded ledger of ")


GPU = (
    "workload=deepseek_r1_moe",
    "target=rtx2080ti",
    "search=paper",
    "search.sample=program",
    "search.warmup_samples=8",
    "model_set=4",
    "samples=16",
    "run=gpu",
)


def test_an_estimated_run_repeats_replays_and_says_what_it_is(composed: Compose, tmp_path: Path) -> None:
    config = composed(*GPU, "device=estimate")
    with assemble(config) as job:
        list(search(job.world, job.journal, job.state))
    assert "latencies estimated" in job.source
    assert job.state.started is not None and job.state.started.measurement == "estimated"
    assert all(s.latency_secs for s in job.state.samples)
    assert any((Path(config.results) / "recordings").glob("estimate-*/adhoc/gpu/measurements.jsonl"))
    again = composed(*GPU, f"results={tmp_path / 'again'}")
    replay = composed(*GPU, "record=replay", f"results={tmp_path / 'replay'}")
    move_recordings(config, replay)
    for other in (again, replay):
        with assemble(other) as repeated:
            list(search(repeated.world, repeated.journal, repeated.state))
        assert journal(other) == journal(config)
    assert repeated.source.startswith("recorded ledger of estimate-")


MEASURED = (*TINY, "samples=12", "measure.budget_secs=0.01", "measure.builders=1", "measure.confirm=1")


def process(results: Path) -> list[str]:
    return [sys.executable, "-m", "colt_pipeline", *command(results, *MEASURED)]


def test_the_command_writes_every_output_and_labels_the_stand_ins(tmp_path: Path) -> None:
    done = subprocess.run(process(tmp_path), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "12/12 samples" in done.stderr
    assert "stand-ins for the named models" in done.stdout
    run = tmp_path / "runs" / "adhoc" / "tiny"
    assert {p.name for p in run.iterdir()} == {*FILES, "timing.json"}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["measurement"] == "measured" and summary["llm_backend"] == "embedded"
    curve = list(csv.DictReader((run / "curve.csv").read_text().splitlines()))
    assert len(curve) == 12
    best = [float(row["best_secs"]) for row in curve]
    assert best == sorted(best, reverse=True)
    assert summary["best_secs"] == min(float(r["latency_secs"]) for r in curve if r["latency_secs"])
    calls = list(csv.DictReader((run / "calls.csv").read_text().splitlines()))
    assert sum(int(c["regular_calls"]) for c in calls) == summary["regular_calls"]
    assert 0 < sum(int(c["regressions"]) for c in calls) <= sum(int(c["children"]) for c in calls)
    assert all(float(c["estimated_usd"]) > 0 for c in calls if int(c["prompt_tokens"])), "as if it had been paid for"
    turns = list(csv.DictReader((run / "turns.csv").read_text().splitlines()))
    for call in calls:
        assert sum(int(row.get(call["model"], 0)) for row in turns) == int(call["regular_calls"])
    assert sum(int(row["course alterations"]) for row in turns) == summary["course_alterations"]
    (recording,) = (tmp_path / "recordings").rglob("adhoc/tiny/measurements.jsonl")
    header, baseline, *measured = map(json.loads, recording.read_text().splitlines())
    samples = [line for line in measured if "round" not in line]
    assert header["workload_hash"].startswith(baseline["program"]) and len(samples) == 12
    assert summary["timed_secs"] == pytest.approx(sum(sum(line["run_secs"]) for line in samples))
    assert len(measured) - len(samples) == 10 * summary["confirmed_programs"] > 0
    assert str(tmp_path) not in "".join((run / name).read_text() for name in FILES)


def test_ctrl_c_leaves_a_resumable_run(composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = subprocess.Popen(process(tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    events = tmp_path / "runs" / "adhoc" / "tiny" / "events.jsonl"
    while running.poll() is None and (not events.exists() or events.read_bytes().count(b"\n") < 4):
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate()
    assert running.returncode == 130
    assert "the same command resumes" in errors and "Traceback" not in errors
    assert colt(monkeypatch, *command(tmp_path, *MEASURED)) == 0
    replayed = tmp_path / "replayed"
    shutil.copytree(tmp_path / "recordings", replayed / "recordings")
    replay = composed(*MEASURED, "record=replay", f"results={replayed}")
    play(replay)
    assert journal(replay) == events.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("events", [3, 10])
def test_kill_9_and_resume_lose_nothing_and_repeat_nothing(composed: Compose, tmp_path: Path, events: int) -> None:
    """Killed at any moment and resumed under another hash seed, a run records each answer and program once."""
    journal_path = tmp_path / "runs" / "adhoc" / "tiny" / "events.jsonl"
    other_seed = {**os.environ, "PYTHONHASHSEED": "1"}
    running = subprocess.Popen(process(tmp_path), cwd=ROOT, stderr=subprocess.DEVNULL, env=other_seed)
    while running.poll() is None and (not journal_path.exists() or journal_path.read_bytes().count(b"\n") < events):
        time.sleep(0.01)
    running.kill()
    running.wait()
    recording = next((tmp_path / "recordings").rglob("adhoc/tiny"))
    names = ("llm.jsonl", "measurements.jsonl")
    before = {name: (recording / name).read_bytes() for name in names}
    run(composed(*MEASURED, f"results={tmp_path}"))
    for name in names:
        after = (recording / name).read_bytes()
        assert after.startswith(before[name][: before[name].rfind(b"\n") + 1])
    answers = [json.loads(line) for line in (recording / "llm.jsonl").read_text().splitlines()]
    assert len({(a["key"], a["occurrence"]) for a in answers}) == len(answers)
    lines = [json.loads(line) for line in (recording / "measurements.jsonl").read_text().splitlines()[1:]]
    programs = [line["program"] for line in lines if "round" not in line]
    assert len(set(programs)) == len(programs) == 13
    assert [line["round"] for line in lines if "round" in line] == list(range(1, 11))
    replayed = tmp_path / "replayed"
    shutil.copytree(tmp_path / "recordings", replayed / "recordings")
    replay = composed(*MEASURED, "record=replay", f"results={replayed}")
    play(replay)
    assert journal(replay) == journal_path.read_bytes()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model_set=3", "model_set=3 is unknown; choose one of: small, large, 2, 4, 8"),
        ("samples=-1", "samples=-1 must be at least 1"),
        ("workload=resnet", "resnet"),
        ("typo=1", "typo"),
        ("record=replay", "there is no recordings directory"),
    ],
)
def test_bad_input_is_one_message_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert colt(monkeypatch, *command(tmp_path, *MEASURED, override)) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


def test_an_unwritable_results_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert colt(monkeypatch, *command(tmp_path, *MEASURED), f"results={tmp_path / 'file'}") == 1
    errors = capsys.readouterr().err
    assert "cannot write" in errors and "Traceback" not in errors


def test_one_sweep_measures_a_cpu_and_estimates_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ("samples=6", "target=cpu,h100", "model_set=2,4", "run=${target.name}-${model_set}")
    assert colt(monkeypatch, *command(tmp_path, *MEASURED, *sweep), "-m") == 0
    done = capsys.readouterr()
    summaries = [json.loads(p.read_text()) for p in sorted((tmp_path / "runs").rglob("summary.json"))]
    assert [(s["target"], s["measurement"]) for s in summaries] == [("cpu", "measured")] * 2 + [
        ("h100", "estimated")
    ] * 2
    rows = [line for line in done.out.splitlines() if line.startswith(("cpu", "h100"))]
    assert ["(estimated)" in row for row in rows] == [row.startswith("h100") for row in rows]
    assert "relative error <= 0.0001" in done.out
    assert done.err.count("device=estimate: estimate-nvidia-h100") == 2


def test_a_sweep_goes_on_after_a_bad_job_reports_it_and_lists_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = command(tmp_path, *MEASURED, "samples=5", "model_set=3,small", "run=${model_set}")
    assert colt(monkeypatch, *sweep, "-m") == 1
    done = capsys.readouterr()
    assert "model_set=3 is unknown" in done.err
    assert [line.split()[0] for line in done.out.splitlines() if line.startswith(("3", "small"))] == ["small"]
    assert colt(monkeypatch, *command(tmp_path, *MEASURED), "--cfg", "job") == 0
    assert "speedup" not in capsys.readouterr().out, "what was run before is not listed"


def test_only_runs_that_ended_since_are_listed(recorded: Recorded) -> None:
    config = recorded(*TINY).config
    path = Path(config.results) / "runs" / "adhoc" / config.run / "summary.json"
    written = path.stat().st_mtime
    assert [summary["run"] for summary in written_since([config], written)] == [config.run]
    assert written_since([config], written + 1) == []


HOMES = {"no HOME": {}, "an unwritable home": {"HOME": "/proc/nobody"}}


@pytest.mark.parametrize("home", HOMES.values(), ids=HOMES)
def test_no_command_needs_a_home_directory(home: dict[str, str], tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], **home}
    search = [sys.executable, "-m", "colt_pipeline", *command(tmp_path, *MEASURED, "samples=3")]
    done = subprocess.run(search, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    figures = [
        sys.executable,
        "-m",
        "stages.figures",
        "--data",
        "results/data/local",
        "--out",
        str(tmp_path / "figures"),
    ]
    done = subprocess.run(figures, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    for figure in (tmp_path / "figures").iterdir():
        assert figure.read_bytes() == (ROOT / "results/figures/local" / figure.name).read_bytes()


def test_two_sweeps_at_once_share_no_run_and_lose_nothing(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimated = ("search=paper", "target=gpu", "device=estimate", *PROJECTION, "search.warmup_samples=4", "samples=8")
    sweeps = [[*command(tmp_path / "both", *estimated, f"model_set={sets}"), "-m"] for sets in ("2,4", "4,small")]
    commands = [[sys.executable, "-m", "colt_pipeline", *sweep] for sweep in sweeps]
    started = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    errors = [process.communicate()[1] for process in started]
    for process, said in zip(started, errors, strict=True):
        assert "Traceback" not in said
        assert process.returncode == 0 or "is in use by another process; wait for it, or set run=NAME" in said
    for sweep in sweeps:  # the same commands again finish what was refused
        assert colt(monkeypatch, *sweep) == 0
    for sets in ("2", "4", "small"):
        alone = composed(*estimated, f"model_set={sets}", f"results={tmp_path / 'alone'}")
        run(alone)
        both = composed(*estimated, f"model_set={sets}", f"results={tmp_path / 'both'}")
        assert journal(both) == journal(alone)
