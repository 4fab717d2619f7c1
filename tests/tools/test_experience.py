"""``colt experience``: what runs measured, added to a directory of one's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from colt_pipeline.assemble import assemble
from colt_pipeline.config.checks import PACKAGE
from colt_pipeline.config.schema import TVM_SPACE
from colt_pipeline.errors import RecordingError
from colt_pipeline.job import Job
from colt_pipeline.measurement.ledger import EXPERIENCE, read_header
from colt_pipeline.prediction.experience_files import experience_digest, read_experience, read_files
from colt_pipeline.runs.events import Started
from colt_pipeline.runs.journal import read_events
from colt_pipeline.runs.layout import CONFIG, JOURNAL, MEASUREMENTS
from colt_pipeline.tools.experience import main
from tests.small_runs import play
from tests.support import Recorded, configured, write_others

pytestmark = pytest.mark.tvm

TINY = (
    *(
        "workload=deepseek_r1_moe",
        "workload.shape={batch: 1, tokens: 8, inner: 32, outer: 24}",
        "search=paper",
        "search.sample=program",
    ),
    *("search.warmup_samples=4", "search.batch_size=2", "model_set=2", "samples=6"),
)
KERNEL = """
import tvm
from tvm.script import tirx as T

@T.prim_func(s_tir=True)
def product(a: T.Buffer((16, 32), "float32"), b: T.Buffer((32, 24), "float32"), c: T.Buffer((16, 24), "float32")):
    for i, j, k in T.grid(16, 24, 32):
        with T.sblock("product"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                c[vi, vj] = T.float32(0)
            c[vi, vj] += a[vi, vk] * b[vk, vj]
"""


@pytest.fixture
def job(recorded: Recorded) -> Job:
    return recorded(*TINY)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


def programs(directory: Path) -> int:
    return sum(len(file.experience.latencies) for file in read_files(directory))


def started(job: Job, change: Callable[[dict[str, object]], None], to: Path) -> Path:
    """A copy of a run whose first event is changed."""
    shutil.copytree(job.rundir.path, to)
    first, *rest = (to / JOURNAL).read_text().splitlines(keepends=True)
    event = json.loads(first)
    change(event)
    (to / JOURNAL).write_text(json.dumps(event) + "\n" + "".join(rest))
    return to


def test_what_a_run_measured_is_added_once(job: Job, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add = ["add", str(job.rundir.path), "--to", str(own), "--alone"]
    assert main(add) == 0
    (file,) = read_files(own)
    device = next(event.device for event in read_events(job.rundir.journal) if isinstance(event, Started))
    assert file.origin is not None
    assert (file.origin.workload, file.origin.device, file.origin.additions) == ("deepseek_r1_moe", device, ())
    expected = sorted((s.program[:20], f"{s.latency_secs:.6g}") for s in job.state.samples)
    assert list(zip(file.keys, (f"{secs:.6g}" for secs in file.experience.latencies), strict=True)) == expected
    before = file.path.read_bytes()
    assert main(add) == 0 and file.path.read_bytes() == before
    assert capsys.readouterr().out.splitlines()[-1].split()[-2:] == ["0", "6"]


def test_a_new_directory_begins_with_the_packaged_experience(job: Job, own: Path) -> None:
    assert main(["add", str(job.rundir.path), "--to", str(own)]) == 0
    assert programs(own) == programs(PACKAGE / "pretraining/tvm") + 6


def test_a_directory_begins_only_if_something_is_added_and_only_once(
    job: Job, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    computed = started(job, lambda event: event.update(measurement="estimated"), tmp_path / "runs/computed")
    assert main(["add", str(computed), "--to", str(own)]) == 1 and not own.exists()
    assert main(["add", str(job.rundir.path), "--to", str(own), "--alone"]) == 0
    source = str(PACKAGE / "pretraining/tvm")
    assert main(["add", str(job.rundir.path), "--to", str(own), "--start-from", source]) == 1
    assert f"{own} has begun already; leave out --start-from {source}" in capsys.readouterr().err
    assert programs(own) == 6


def test_runs_in_two_spaces_begin_with_the_experience_in_both(job: Job, own: Path, tmp_path: Path) -> None:
    extended = tmp_path / "runs/extended"
    shutil.copytree(job.rundir.path, extended)
    with (extended / CONFIG).open("a") as config:  # with its additions off, so that the programs are the same
        yaml.safe_dump({"space": {**vars(TVM_SPACE), "name": "extended"}}, config)
    assert main(["add", str(job.rundir.path), str(extended), "--to", str(own)]) == 0
    packaged = sum(programs(PACKAGE / f"pretraining/{space}") for space in ("tvm", "extended"))
    assert programs(own) == packaged + 6


def test_programs_in_files_without_keys_count_once_too(job: Job, own: Path, tmp_path: Path) -> None:
    assert main(["add", str(job.rundir.path), "--to", str(tmp_path / "keyed"), "--alone"]) == 0
    (keyed,) = read_files(tmp_path / "keyed")
    own.mkdir()
    (own / f"{keyed.workload_hash}.csv").write_text("".join(f"{line}\n" for line in keyed.lines))
    assert main(["add", str(job.rundir.path), "--to", str(own)]) == 0
    assert programs(own) == 6


def test_devices_are_kept_apart(job: Job, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = started(job, lambda event: event.update(device="another-2c"), tmp_path / "runs/other")
    assert main(["add", str(job.rundir.path), str(other), "--to", str(own), "--alone"]) == 0
    assert "2 devices: latencies are compared only within" in capsys.readouterr().err
    assert programs(own) == 12 and len(read_experience(own, "another")) == 2
    assert main(["list", str(own)]) == 0
    shown = capsys.readouterr().out
    assert "12 programs of 1 workload\n" in shown and "another-2c" in shown and "deepseek_r1_moe" in shown


def test_targets_are_kept_apart(job: Job, own: Path, tmp_path: Path) -> None:
    one_core = {"kind": "llvm", "mcpu": "x86-64", "num-cores": 1}
    other = started(job, lambda event: event.update(target=one_core), tmp_path / "runs/other")
    assert main(["add", str(job.rundir.path), str(other), "--to", str(own), "--alone"]) == 0
    assert len(read_files(own)) == 2
    assert programs(own) == 12 and len(read_experience(own, "another")) == 2


def test_estimates_are_refused(job: Job, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    computed = started(job, lambda event: event.update(measurement="estimated"), tmp_path / "runs/computed")
    assert main(["add", str(computed), "--to", str(own), "--alone"]) == 1
    assert "its latencies are estimated, not measured" in capsys.readouterr().err
    assert main(["add", str(computed), str(job.rundir.path), "--to", str(own), "--alone"]) == 0
    assert f"not taken: {computed}" in capsys.readouterr().err and programs(own) == 6


def test_a_kernel_of_ones_own_is_read_from_its_run(recorded: Recorded, own: Path, tmp_path: Path) -> None:
    source = tmp_path / "kernel.py"
    source.write_text(KERNEL)
    job = recorded(*TINY[2:], "workload=own", f"workload.source={source}")
    source.unlink()
    assert main(["add", str(job.rundir.path), "--to", str(own), "--alone"]) == 0
    (file,) = read_files(own)
    assert (file.workload_hash, len(file.keys)) == (job.workload.hash, len(job.state.samples))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda event: event.update(workload_hash="0" * 64), "tuned another deepseek_r1_moe"),
        (lambda event: event["target"].update({"cl-opt": "x"}), "the target sets cl-opt, which no run does"),
    ],
)
def test_a_run_that_is_not_what_it_says_adds_nothing(
    job: Job, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[..., None], said: str
) -> None:
    assert main(["add", str(started(job, change, tmp_path / "runs/changed")), "--to", str(own), "--alone"]) == 1
    assert said in capsys.readouterr().err and not own.exists()


def test_what_recorded_searches_started_from_stays_as_it_is(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", str(job.rundir.path), "--to", str(PACKAGE / "pretraining/tvm")]) == 1
    assert "add to a directory of your own" in capsys.readouterr().err


def test_nothing_to_add_or_list_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", str(tmp_path), "--to", str(tmp_path / "own"), "--alone"]) == 1
    assert f"no run below {tmp_path}" in capsys.readouterr().err
    assert main(["list", str(tmp_path)]) == 1
    assert f"{tmp_path} contains no experience" in capsys.readouterr().err


def test_a_search_states_what_it_started_from_and_does_not_go_on_from_something_else(
    job: Job, own: Path, tmp_path: Path
) -> None:
    write_others(own)
    config = configured(
        *("workload=flux_conv", "workload.shape={batch: 1, channels: 8, filters: 8, height: 4, width: 4}"),
        *("search=colt", "model_set=2", "samples=4", "search.batch_size=2", f"results={tmp_path / 'results'}"),
        f"pretraining={own}",
    )
    assert main(["add", str(job.rundir.path), "--to", str(own)]) == 0
    tuned = play(config)
    (ledger,) = (tmp_path / "results/recordings").glob(f"*/adhoc/{config.run}/{MEASUREMENTS}")
    header = read_header(ledger)
    assert header is not None
    assert header[EXPERIENCE] == experience_digest(read_experience(own, tuned.workload.hash))
    next(own.glob("*--*.csv")).unlink()
    with pytest.raises(RecordingError, match=rf"started from the experience {header[EXPERIENCE][:12]}"):
        with assemble(config):
            pass
