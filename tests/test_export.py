"""``export``: what it writes for runs that are finished, unfinished, confirmed or broken, and how it fails."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from colt_pipeline.export import main
from colt_pipeline.runs.layout import MEASUREMENTS, run_directory
from tests.support import ROOT, Compose, Recorded

pytestmark = pytest.mark.tvm

TINY = (
    *(
        "workload=deepseek_r1_moe",
        "workload.shape={batch: 1, tokens: 8, inner: 32, outer: 24}",
        "search=paper",
        "search.sample=program",
    ),
    *("search.warmup_samples=4", "search.batch_size=2", "model_set=2", "samples=6", "run=tiny/run"),
)
SOFTMAX = (
    *("workload=flux_attention", "workload.shape={heads: 1, kv_heads: 1, head_dim: 16, tokens: 16, context: 16}"),
    *("search=paper", "search.sample=program", "search.warmup_samples=4", "model_set=2", "samples=4", "run=softmax"),
)
"""A kernel with exp, in TVM's space."""
FILES = {
    *("README.md", "export.json", "kernel.so", "run.py", "main.cc", "scheduled.py", "schedule.py", "data/2_matmul.npy"),
    *("database/workload.json", "database/tuning_record.json"),
}


def files(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture
def results(recorded: Recorded, tmp_path: Path) -> Path:
    """A copy of a finished run and its recording."""
    job = recorded(*TINY)
    shutil.copytree(job.config.results, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def run(results: Path) -> Path:
    return run_directory(results, "adhoc", "tiny/run")


def ledger(results: Path) -> Path:
    (path,) = (results / "recordings").glob(f"*/adhoc/tiny/run/{MEASUREMENTS}")
    return path


def test_a_finished_run_becomes_a_library_that_runs(
    results: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = files(results), tmp_path / "out"
    assert main([str(run), "--out", str(out), "--database", str(tmp_path / "database")]) == 0
    printed = capsys.readouterr().out
    assert f"wrote {out}: " in printed and f"run it with: python {out / 'run.py'}" in printed
    assert f"added to {tmp_path / 'database'}" in printed
    assert files(results) == before
    written = files(out)
    assert written.keys() == FILES
    assert json.loads(written["export.json"])["files"] == sorted(FILES)
    here = [str(place).encode() for place in (tmp_path, ROOT, Path.home(), sys.prefix, Path.cwd())]
    assert [name for name, content in written.items() if any(place in content for place in here)] == []
    done = subprocess.run([sys.executable, str(out / "run.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("matmul: right, relative error")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["database", "out", "results"]


@pytest.mark.parametrize("moved", [False, True], ids=["beside_its_recording", "moved"])
def test_vector_math_is_exported_with_the_kernel(recorded: Recorded, tmp_path: Path, moved: bool) -> None:
    """The library is as it was measured, and so is what a user compiles with the copy, without this project."""
    job = recorded(*SOFTMAX, "space.vector_math=true")
    run, out = run_directory(job.config.results, "adhoc", "softmax"), tmp_path / "out"
    if moved:
        run = Path(shutil.copytree(run, tmp_path / "elsewhere"))
    assert main([str(run), "--out", str(out)]) == 0
    assert b"expf" not in (out / "kernel.so").read_bytes()
    text = (out / "README.md").read_text()
    assert "`tvm.compile(module, target=..., tir_pipeline=vector_math.pipeline())` for the same code" in text
    (line,) = [line for line in (out / "scheduled.py").read_text().splitlines() if "library = tvm.compile(" in line]
    code = (
        "import sys, tvm\nfrom scheduled import Module\nfrom vector_math import pipeline\n"
        f"{line.strip()}\nplain = tvm.compile(Module, target={json.dumps(job.target)})\n"
        "print(*('@llvm.exp' in each.mod.inspect_source('ll') for each in (library, plain)))\n"
        "assert 'colt_pipeline' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=out, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_a_kernel_that_was_measured_without_vector_math_is_exported_without(recorded: Recorded, tmp_path: Path) -> None:
    job, out = recorded(*SOFTMAX), tmp_path / "out"
    assert main([str(run_directory(job.config.results, "adhoc", "softmax")), "--out", str(out)]) == 0
    assert b"expf" in (out / "kernel.so").read_bytes()
    assert not (out / "vector_math.py").exists()
    assert "vector_math" not in (out / "README.md").read_text() + (out / "scheduled.py").read_text()


def test_the_readme_says_what_it_is(recorded: Recorded, run: Path, tmp_path: Path) -> None:
    job = recorded(*TINY)
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert job.state.started is not None and job.state.best is not None and job.state.best.latency_secs is not None
    for words in (
        "# deepseek_r1_moe\n",
        job.state.started.device,
        f"| latency | {job.state.best.latency_secs * 1e3:.4g} ms |",
        "not confirmed: one run during the search",
        f"| baseline | {job.state.started.baseline_secs * 1e3:.4g} ms, the unscheduled program",
        f"| speedup | {job.state.started.baseline_secs / job.state.best.latency_secs:.2f}x |",
        f"| tolerance of matmul | largest difference at most {job.workload.rtol} of the largest magnitude (float32) |",
        "| reference | NumPy, in float64 |",
        f"mcpu={job.target['mcpu']}",
        "| compiled for | the same |",
        "COLT, seed 0, 6 of 6 samples |",
        "gpt-5.2 (stand-in)",
        job.state.best.program,
        "apache-tvm 0.27",
        "    python run.py\n",
        "    g++ -O2 main.cc -o main ",
        "ms.database.JSONDatabase(",
    ):
        assert words in text


def test_a_run_that_goes_on_gives_its_best_so_far(composed: Compose, tmp_path: Path) -> None:
    from tests.small_runs import play

    config = composed(*TINY)
    job = play(config, stop_after=3)
    assert 0 < len(job.state.samples) < config.samples
    run = run_directory(config.results, config.experiment, config.run)
    for path in (run / "events.jsonl", ledger(Path(config.results))):
        with path.open("a") as file:
            file.write('{"half a li')  # of another process
    before = files(Path(config.results))
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert files(Path(config.results)) == before
    assert job.state.best is not None
    assert json.loads((tmp_path / "out" / "export.json").read_text())["program"] == job.state.best.program
    assert f"{len(job.state.samples)} of 6 samples (unfinished)" in (tmp_path / "out" / "README.md").read_text()


def test_the_confirmed_winner_is_exported(
    recorded: Recorded, results: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = recorded(*TINY)
    ranked = sorted(job.state.samples, key=lambda sample: sample.latency_secs or 1e9)
    lucky, winner = ranked[0].program, ranked[1].program
    with ledger(results).open("a") as file:
        for number in range(1, 11):
            for program, secs in ((lucky, 0.4), (winner, 0.3 + number / 1000)):
                line = {"program": program[:20], "run_secs": [secs], "round": number}
                file.write(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n")
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "export.json").read_text())["program"] == winner
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| latency | 305.5 ms |" in text and "the median of 10 rounds" in text
    assert "305.5 ms, confirmed" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "database" / "tuning_record.json").read_text())
    assert record[1][1] == [pytest.approx(0.3 + number / 1000) for number in range(1, 11)]


def test_another_cpu_is_said(run: Path, tmp_path: Path) -> None:
    assert main([str(run), "--out", str(tmp_path / "out"), "export.mcpu=x86-64"]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| compiled for | kind=llvm, mcpu=x86-64, num-cores=" in text
    assert "the latency is that of the CPU it was tuned for" in text
    assert json.loads((tmp_path / "out" / "export.json").read_text())["target"]["mcpu"] == "x86-64"


def test_without_a_compiler_there_is_an_object_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for name in ("CXX", "CC"):
        monkeypatch.delenv(name, raising=False)
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([str(run), "--out", str(out)]) == 0
    assert "kernel.o is not linked: this machine has no C compiler" in capsys.readouterr().out
    assert files(out).keys() == FILES - {"kernel.so"} | {"kernel.o"}
    text = (out / "README.md").read_text()
    (link,) = [line.strip() for line in text.splitlines() if line.startswith("    g++ -shared")]
    missing = subprocess.run([sys.executable, "run.py"], cwd=out, capture_output=True, text=True, check=False)
    assert missing.returncode == 1 and missing.stderr.startswith("kernel.so is missing")
    monkeypatch.setenv("PATH", path)
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    subprocess.run(link, cwd=out, shell=True, check=True)
    assert subprocess.run([sys.executable, "run.py"], cwd=out, capture_output=True, check=False).returncode == 0
    assert main([str(run), "--out", str(out)]) == 0  # kernel.so, linked by hand, is known


def test_a_compiler_that_fails_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", shutil.which("false") or "false")
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    assert "kernel.o is not linked: false failed" in capsys.readouterr().out
    assert "kernel.so" not in files(tmp_path / "out")


def test_a_gpu_kernel_comes_without_a_library(
    recorded: Recorded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = "workload.shape={batch: 1, tokens: 32, inner: 32, outer: 64}"
    job = recorded(*TINY, shape, "target=gpu", "device=estimate")
    directory = run_directory(job.config.results, "adhoc", "tiny/run")
    assert main([str(directory), "--out", str(tmp_path / "out")]) == 0
    assert "no library was written" in capsys.readouterr().out
    assert files(tmp_path / "out").keys() == {
        *("README.md", "export.json", "scheduled.py", "schedule.py"),
        *("database/workload.json", "database/tuning_record.json"),
    }
    text = (tmp_path / "out" / "README.md").read_text()
    assert "There is no library" in text and "run.py" not in text
    assert "ms (estimated) |" in text and "not measured" in text
    assert main([str(directory), "--out", str(tmp_path / "out"), "export.mcpu=x86-64"]) == 1
    assert "this run's target is cuda" in capsys.readouterr().err


def test_an_earlier_export_is_replaced_and_nothing_else(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(run), "--out", str(out)]) == 0
    (out / "data" / "0_A.npy").write_bytes(b"saved by run.py")
    assert main([str(run), "--out", str(out)]) == 0
    assert files(out).keys() == FILES
    (out / "notes.txt").write_text("mine")
    before = files(out)
    assert main([str(run), "--out", str(out)]) == 1
    assert "notes.txt is none of its files" in capsys.readouterr().err
    assert files(out) == before
    assert main([str(run), "--out", str(run)]) == 1
    assert "not an earlier export" in capsys.readouterr().err
    assert main([str(run), "--out", str(out / "notes.txt")]) == 1
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_export_leaves_nothing_half(
    run: Path, tmp_path: Path, earlier: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, database = tmp_path / "out", tmp_path / "database"
    if earlier:
        assert main([str(run), "--out", str(out), "--database", str(database)]) == 0
    before = files(tmp_path)

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("colt_pipeline.exports.write.readme_text", interrupted)
    assert main([str(run), "--out", str(out), "--database", str(database)]) == 130
    assert "interrupted; nothing was exported" in capsys.readouterr().err
    assert files(tmp_path) == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def edit(path: Path, change: Callable[[str], str]) -> None:
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.yaml", lambda text: text.replace("outer: 24", "outer: 40"), "tuned another deepseek_r1_moe"),
        ("config.yaml", lambda text: text.replace("outer: 24", "outer: many"), "workload.shape"),
        ("config.yaml", lambda text: text.replace("name: deepseek_r1_moe", "name: other"), "other is unknown"),
        ("events.jsonl", lambda text: text.replace("meta_schedule.parallel", "pragma_import_c"), "pragma_import_c"),
        ("events.jsonl", lambda text: text.replace('"kind":"llvm"', '"kind":"hexagon9"'), "nothing can be compiled"),
        ("events.jsonl", lambda text: text.replace('"num-cores"', '"num_cores"'), "the target sets num_cores"),
        (
            "events.jsonl",
            lambda text: text.replace('"num-cores"', '"cl-opt":["-stats"],"num-cores"'),
            "the target sets cl-opt",
        ),
        ("events.jsonl", lambda text: text.replace('"num-cores":', '"num-cores":-'), "nothing can be compiled"),
        ("events.jsonl", lambda text: text.splitlines()[0] + "\n", "no program has a valid latency yet"),
        ("program.json", lambda text: '{"name": "x", "shape": {}, "inputs": null}', "program"),
        ("program.json", lambda text: '{"name": "x", "shape": {}, "program": "{}", "inputs": null}', "a kernel"),
        ("program.json", lambda text: '{"name": "x", "shape": {}, "program": "", "inputs": "/etc"}', "inputs"),
    ],
)
def test_a_run_that_was_edited_is_one_message(
    run: Path, tmp_path: Path, file: str, change: Callable[[str], str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "program.json").write_text("") if file == "program.json" else None
    edit(run / file, change)
    (run / "summary.json").unlink()
    assert main([str(run), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_ledger_that_contradicts_the_journal_is_a_message(
    results: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ledger(results).read_text().splitlines()
    lines[2:] = [json.dumps({**json.loads(line), "run_secs": [1e-5]}) for line in lines[2:]]
    ledger(results).write_text("\n".join(lines) + "\n")
    assert main([str(run), "--out", str(tmp_path / "out")]) == 1
    assert "holds 1e-05 s; restore the one that is wrong" in capsys.readouterr().err


def test_a_run_without_its_recordings_is_exported(results: Path, run: Path, tmp_path: Path) -> None:
    shutil.rmtree(results / "recordings")
    moved = run.rename(tmp_path / "moved")
    assert main([str(moved), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert "whether it was confirmed is in the recording, which is not beside the run" in text
    assert "not confirmed" not in text and "one run" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export.mcpu=z80"], "export.mcpu=z80 is unknown to LLVM"),
        (["export.mcpu="], "export.mcpu= is not a setting"),
        (["samples=3"], "samples=3 is not a setting of export; there is only export.mcpu=NAME"),
        (["export.mcpu=a", "export.mcpu=b"], "give one of them"),
        (["runs/another"], "export takes one run, and runs/another would be a second one"),
        (["--database", "OUT/database"], "a database of its own"),
    ],
)
def test_a_wrong_argument_is_one_message(
    run: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = [argument.replace("OUT", str(out)) for argument in arguments]
    assert main([str(run), "--out", str(out), *given]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not out.exists()


def test_a_wrong_path_names_runs(tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(results), "--out", str(tmp_path / "out")]) == 1
    assert f"Name the one below it: {results / 'runs' / 'adhoc' / 'tiny' / 'run'}." in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_a_message(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("colt_pipeline.exports.write.readme_text", full)
    assert main([str(run), "--out", str(tmp_path / "out")]) == 1
    assert "cannot write" in (error := capsys.readouterr().err) and "No space left" in error
    assert not (tmp_path / "out").exists()
