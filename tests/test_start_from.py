"""A search that begins with the best programs of earlier runs: real TVM, real files, latencies from a hash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import RecordingError
from colt_pipeline.job import Job
from colt_pipeline.measurement import backend as backends
from colt_pipeline.measurement.devices import Device, host_cpu
from colt_pipeline.runs.events import Child, Planted
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.runs.layout import START
from tests.small_runs import COLT, PROJECTION, TINY, command, journal, move_recordings, play
from tests.small_runs import colt as call
from tests.support import Compose, Recorded

pytestmark = pytest.mark.tvm

PLUS = (*PROJECTION, *COLT, "search=colt_plus", "samples=10")
AGAIN = "run=again"


def best_of(job: Job, count: int) -> list[str]:
    """Keys of the fastest programs of a run."""
    samples = [s for s in job.state.samples if s.latency_secs is not None]
    return [s.program for s in sorted(samples, key=lambda s: s.latency_secs or 0.0)][:count]


def planted(job: Job) -> tuple[Child, ...]:
    return next(event.children for event in job.journal.events if isinstance(event, Planted))


def start(config: Config) -> Path | None:
    """What the run's recording says it started from."""
    found = (Path(config.results) / "recordings").glob(f"*/{config.experiment}/{config.run}/{START}")
    return next(found, None)


@pytest.mark.parametrize("size", [TINY, PLUS], ids=["paper", "colt_plus"])
def test_the_best_of_earlier_runs_are_the_first_programs(
    composed: Compose, recorded: Recorded, tmp_path: Path, size: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = recorded(*size)
    results, best = earlier.config.results, best_of(earlier, 4)
    config = composed(*size, AGAIN, "search.initial_programs=6", f"start_from={results}")
    job = play(config)
    said = capsys.readouterr().err
    assert f"starts from 4 programs in {results}, the best of adhoc/tiny with " in said
    keys = [child.program for child in planted(job)]
    assert keys[:4] == best and len(set(keys)) == 6
    assert [sample.program for sample in job.state.samples[:4]] == best, "whatever the cost model says of them"

    path = start(config)
    assert path is not None and str(results) not in path.read_text()
    lines = read_lines(path)
    assert [line["program"] for line in lines] == best and {line["from"] for line in lines} == {"adhoc/tiny"}
    assert [line["latency_secs"] for line in lines] == sorted(line["latency_secs"] for line in lines)

    few = composed(*size, "run=few", "search.initial_programs=2", f"start_from={results}")
    assert [child.program for child in planted(play(few, stop_after=2))] == best[:2]


@pytest.mark.parametrize("size", [TINY, PLUS], ids=["paper", "colt_plus"])
def test_it_repeats_resumes_and_replays_without_the_directory(
    composed: Compose, recorded: Recorded, tmp_path: Path, size: tuple[str, ...]
) -> None:
    earlier = tmp_path / "earlier"
    shutil.copytree(recorded(*size).config.results, earlier)

    def config(name: str, *more: str) -> Config:
        return composed(*size, AGAIN, f"results={tmp_path / name}", *more)

    whole, parts = (config(name, f"start_from={earlier}") for name in ("whole", "parts"))
    play(whole)
    assert journal(whole) != journal(recorded(*size).config)
    play(parts, stop_after=1)
    shutil.rmtree(earlier)
    play(parts, stop_after=4)
    play(config("parts"))
    replay = config("replay", "record=replay")
    move_recordings(whole, replay)
    job = play(replay, stop_after=3)
    play(config("replay", "record=replay", f"start_from={earlier}"))
    assert job.cassette.asked == job.evaluator.measured == 0
    assert journal(parts) == journal(replay) == journal(whole)
    text = (Path(whole.results) / "runs/adhoc/again/config.yaml").read_text()
    assert "start_from" not in text and str(tmp_path) not in text


def test_a_run_whose_results_it_starts_from_may_be_beside_it(composed: Compose, recorded: Recorded) -> None:
    config = composed(*TINY, AGAIN)
    shutil.copytree(recorded(*TINY).config.results, config.results)
    config = composed(*TINY, AGAIN, f"start_from={config.results}")
    assert [child.program for child in planted(play(config))] == best_of(recorded(*TINY), 4)


def test_what_was_found_elsewhere_is_not_taken_and_said_once(
    composed: Compose,
    recorded: Recorded,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = recorded(*TINY).config.results
    taking = f"start_from={results}"

    def takes_nothing(*size: str, name: str) -> None:
        config, plain = composed(*size, f"run={name}", taking), composed(*size, f"run={name}", f"results={tmp_path}")
        play(config, stop_after=2)
        said = capsys.readouterr().err
        assert f"note: {name}: {taking} contains no program of {config.workload.name}" in said
        path = start(config)
        assert path is not None and path.read_bytes() == b""
        play(config, stop_after=1)
        assert capsys.readouterr().err == ""
        play(plain, stop_after=3)
        assert journal(config) == journal(plain)

    takes_nothing(*PROJECTION, *COLT, name="space")
    takes_nothing(*TINY, "workload.shape.inner=64", name="size")
    takes_nothing(*TINY, "target.cores=1", name="target")
    elsewhere = Device({**host_cpu().facts, "cpu": "Another CPU"})
    monkeypatch.setattr(backends, "host_cpu", lambda cores: elsewhere)
    takes_nothing(*TINY, name="device")


def test_a_run_that_has_begun_without_goes_on_without(
    composed: Compose, recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    taking = f"start_from={recorded(*TINY).config.results}"
    play(composed(*TINY), stop_after=3)
    config = composed(*TINY, taking)
    play(config)
    assert f"note: tiny: {taking} is not used, because this run has begun without; " in capsys.readouterr().err
    assert journal(config) == journal(recorded(*TINY).config) and start(config) is None

    shutil.rmtree(Path(config.results) / "runs")  # its recording is the run's all the same
    play(config)
    assert journal(config) == journal(recorded(*TINY).config) and start(config) is None
    assert "is not used" in capsys.readouterr().err


def test_recording_anew_begins_anew(composed: Compose, recorded: Recorded) -> None:
    taking = f"start_from={recorded(*TINY).config.results}"
    config = composed(*TINY, AGAIN, taking)
    first = play(config)
    shutil.rmtree(first.rundir.path)
    anew = play(composed(*TINY, AGAIN, "record=all"))
    assert start(config) is None and list((Path(config.results) / "recordings").rglob(f"{START}.1"))
    assert planted(anew) != planted(first)


def test_a_damaged_record_is_one_message(
    composed: Compose, recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = composed(*TINY, AGAIN, f"start_from={recorded(*TINY).config.results}")
    play(config, stop_after=2)
    path = start(config)
    assert path is not None
    first, *rest = path.read_text().splitlines()

    def refused(**change: object) -> str:
        changed = json.dumps({**json.loads(first), **change})
        path.write_text("".join(f"{line}\n" for line in (changed, *rest)))
        with pytest.raises(RecordingError) as raised:
            play(composed(*TINY, AGAIN))
        return str(raised.value)

    assert refused(trace="[[],[]]", latency_secs=-1).startswith(f"{path}, line 1: latency_secs")
    assert "restore the file" in refused(trace="[[],[]]")
    assert f"{path}: the recorded trace of program {'0' * 12} yields another program" in refused(program="0" * 64)


def test_what_is_no_results_directory_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = tmp_path / "nowhere"
    assert call(monkeypatch, *command(tmp_path / "results", *TINY, f"start_from={nowhere}")) == 1
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"start_from={nowhere}: cannot read {nowhere}/runs" in said and "start_from=null" in said


KERNEL = """
from tvm.script import tirx as T


@T.prim_func(s_tir=True)
def product(a: T.Buffer((32, 32), "float32"), b: T.Buffer((32, 32), "float32"), c: T.Buffer((32, 32), "float32")):
    for i, j, k in T.grid(32, 32, 32):
        with T.sblock("product"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                c[vi, vj] = T.float32(0)
            c[vi, vj] = c[vi, vj] + a[vi, vk] * b[vk, vj]
"""


def test_a_kernel_of_ones_own_is_known_by_its_contents(composed: Compose, tmp_path: Path) -> None:
    """Another file name gives another run, but the same kernel."""
    names = ("kernel", "copy")
    for name in names:
        (tmp_path / f"{name}.py").write_text(KERNEL)
    first, second = (
        (
            "workload=own",
            f"workload.source={tmp_path / name}.py",
            "search=colt",
            "space=tvm",
            "model_set=4",
            "samples=8",
        )
        for name in names
    )
    earlier = play(composed(*first))
    job = play(composed(*second, f"start_from={earlier.config.results}"), stop_after=2)
    assert job.config.run != earlier.config.run
    assert [child.program for child in planted(job)] == best_of(earlier, 4)


def test_confirmed_programs_are_first(composed: Compose, recorded: Recorded, tmp_path: Path) -> None:
    """The search's own best fails when it is measured again, so it is not taken."""
    job = recorded(*TINY)
    results = tmp_path / "earlier"
    shutil.copytree(job.config.results, results)
    (ledger,) = results.glob("recordings/*/adhoc/tiny/measurements.jsonl")
    best, second, third = best_of(job, 3)
    again: list[dict[str, Any]] = [
        {"program": best[:20], "round": 1, "run_secs": [], "error": "timeout"},
        {"program": second[:20], "round": 1, "run_secs": [0.5]},
        {"program": third[:20], "round": 1, "run_secs": [0.4]},
    ]
    with ledger.open("a") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in again)
    started = play(composed(*TINY, AGAIN, f"start_from={results}"), stop_after=2)
    keys = [child.program for child in planted(started)]
    assert keys[:2] == [third, second] and best not in keys
