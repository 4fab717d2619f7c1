"""Live runs as a user experiences them: the app as a process, a real HTTP server, a secret key, kills and limits."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.errors import ProviderError
from colt_pipeline.llm import openai_client
from colt_pipeline.runs.budget import spent
from colt_pipeline.runs.jsonl import read_growing, read_lines
from colt_pipeline.runs.layout import SPENDING
from colt_pipeline.tune import run
from stages.benchmarks import answers
from tests.llm.live import KEY
from tests.llm.server import Server, misbehaving
from tests.support import ROOT, Compose

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

ANSWER = '{"transformations": ["TileSize", "Parallel"], "next_model": "qwen3-8b"}'
SIZE = ("workload=deepseek_r1_moe", "workload.shape.inner=128", "workload.shape.outer=64")
RUN = (
    "search=colt",
    "search.cost_model=xgb",
    "search.warmup_samples=6",
    "search.candidates=4",
    "search.batch_size=4",
    "samples=12",
    "run=live",
)
MODELS = ("+model_sets.mine=[qwen3-14b,qwen3-8b]", "model_set=mine", "stand_ins=false")


def overrides(server: Server, *more: str) -> tuple[str, ...]:
    served = [f"models.{name}.provider=local" for name in ("qwen3-14b", "qwen3-8b")]
    local = {"base_url": server.base_url, "key_env": "TEST_KEY", "timeout_secs": 5, "attempts": 3}
    providers = [f"providers.local.{name}={value}" for name, value in local.items()]
    return (*SIZE, *RUN, *MODELS, *served, *providers, "measure.budget_secs=0.01", "measure.builders=1", *more)


def command(results: Path, *chosen: str) -> list[str]:
    shown = [f"results={results}", f"hydra.run.dir={results}/logs", f"hydra.sweep.dir={results}/logs"]
    return [sys.executable, "-m", "colt_pipeline.tune", *chosen, *shown]


def ran(results: Path, *chosen: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"TEST_KEY": KEY, "PATH": os.environ["PATH"], **environment}
    return subprocess.run(command(results, *chosen), cwd=ROOT, capture_output=True, text=True, check=False, env=env)


def journal(results: Path) -> bytes:
    return (results / "runs" / "adhoc" / "live" / "events.jsonl").read_bytes()


def summary(results: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / "runs" / "adhoc" / "live" / "summary.json").read_text())
    return found


def recording(results: Path) -> Path:
    return next((results / "recordings").rglob("adhoc/live"))


def moved(results: Path, to: Path) -> Path:
    shutil.copytree(results / "recordings", to / "recordings")
    return to


@dataclass(frozen=True)
class Live:
    """A live run that is over, as its server; tests copy its results and never change them."""

    results: Path
    server: Server
    done: subprocess.CompletedProcess[str]

    @property
    def chosen(self) -> tuple[str, ...]:
        return overrides(self.server)


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> Live:
    results = tmp_path_factory.mktemp("live") / "live"
    with misbehaving("parrot", "500", "refusal", "truncated JSON", "400") as server:
        server.text = ANSWER
        done = ran(results, *overrides(server))
    return Live(results, server, done)


def test_a_live_run_replays_without_server_and_key_and_the_key_is_nowhere(over: Live, tmp_path: Path) -> None:
    live, server, done, replayed = over.results, over.server, over.done, tmp_path / "replayed"
    assert done.returncode == 0, done.stderr
    assert "stand-in" not in done.stderr + done.stdout and "http" not in done.stdout
    assert "LLM backend: local" in done.stdout
    again = ran(moved(live, replayed), *over.chosen, "record=replay", TEST_KEY="")
    assert again.returncode == 0, again.stderr
    assert journal(live) == journal(replayed)
    calls = (live / "runs/adhoc/live/calls.csv").read_bytes()
    assert calls == (replayed / "runs/adhoc/live/calls.csv").read_bytes()
    rows = list(csv.DictReader(calls.decode().splitlines()))
    counted = {kind: sum(int(row[kind]) for row in rows) for kind in ("not_json", "refusal", "transport")}
    assert counted == {"not_json": 1, "refusal": 1, "transport": 1}
    assert sum(float(row["usd"]) for row in rows) > 0 and all(float(row["llm_secs"]) >= 0 for row in rows)
    # Every request is an attempt in the account; failed ones cost nothing or their upper bound.
    account = read_lines(recording(live) / SPENDING)
    assert spent(account).calls == len(server.requests) == summary(live)["requests"] == summary(replayed)["requests"]
    assert account[0]["prices"]["qwen3-14b"]["date"]
    written = [path for place in (live, replayed) for path in place.rglob("*") if path.is_file()]
    assert len(written) > 10
    for secret in (KEY, server.base_url, f"127.0.0.1:{server.port}"):
        holders = [str(path) for path in written if secret.encode() in path.read_bytes()]
        holders = [path for path in holders if ".hydra" not in path or secret == KEY]
        assert not holders, secret
    assert KEY not in done.stdout + done.stderr + again.stdout + again.stderr


def test_kill_9_in_the_middle_of_a_call_and_no_answered_call_is_sent_again(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    requests = 6
    env = {"TEST_KEY": KEY, "PATH": os.environ["PATH"]}
    with misbehaving(*["good"] * (requests - 1), "time-out") as server:
        server.text = ANSWER
        chosen = overrides(server)
        process = subprocess.Popen(command(tmp_path, *chosen), cwd=ROOT, stderr=subprocess.DEVNULL, env=env)
        while process.poll() is None and len(server.requests) < requests:
            time.sleep(0.01)
        assert KEY not in Path(f"/proc/{process.pid}/cmdline").read_text()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert spent(read_growing(recording(tmp_path) / SPENDING)).calls == requests
        run(composed(*chosen, f"results={tmp_path}"))
    assert summary(tmp_path)["samples"] == 12
    sent = Counter(json.dumps(request) for request in server.requests)
    assert [body for body, times in sent.items() if times > 1] == [json.dumps(server.requests[requests - 1])]
    answers = read_lines(recording(tmp_path) / "llm.jsonl")
    assert len(answers) == len(sent)
    assert len(server.requests) == spent(read_lines(recording(tmp_path) / SPENDING)).calls


def test_at_a_limit_a_run_ends_with_its_results_replays_and_goes_on_with_a_higher_one(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    live, replayed = tmp_path / "live", tmp_path / "replayed"
    with misbehaving() as server:
        server.text = ANSWER
        chosen = overrides(server)
        limited = ran(live, *chosen, "budget.run.calls=5")
        assert limited.returncode == 0, limited.stderr
        assert "budget.run.calls=5 is reached (5 used" in limited.stderr
        assert summary(live)["stopped"] == "limit" and summary(live)["samples"] >= 4
        assert len(server.requests) == 5
        run(composed(*chosen, f"results={moved(live, replayed)}", "record=replay"))
        assert journal(replayed) == journal(live)
        assert summary(replayed)["stopped"] == "limit"
        before = journal(live)
        run(composed(*chosen, f"results={live}", "budget.run.calls=100"))
    assert summary(live)["stopped"] == "budget" and summary(live)["samples"] == 12
    # A resumed run replays too, but with loops as short as these not always to the same trace (NOTES.md, "two traces").
    assert journal(live).startswith(before)


ESTIMATED = ("target=gpu", "device=estimate", "llm.concurrency=4", "samples=16")
"""Four calls at the same time, and no kernels, whose latencies would not repeat."""
TILES = '{"transformations": ["TileSize"], "next_model": "qwen3-8b"}'


def test_with_calls_at_the_same_time_a_limit_holds_and_the_run_replays_and_goes_on_as_if_there_were_none(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    live, replayed, whole = tmp_path / "live", tmp_path / "replayed", tmp_path / "whole"
    with misbehaving() as server:
        server.text = TILES
        chosen = overrides(server, *ESTIMATED)
        limited = ran(live, *chosen, "budget.run.calls=11")
        assert limited.returncode == 0, limited.stderr
        assert "budget.run.calls=11 is reached (11 used" in limited.stderr
        assert len(server.requests) == 11 == sum("text" in line for line in read_lines(recording(live) / "llm.jsonl"))
        run(composed(*chosen, f"results={moved(live, replayed)}", "record=replay"))
        assert journal(replayed) == journal(live) and summary(replayed)["stopped"] == "limit"
        assert summary(replayed) == summary(live), "what calls cost that were under way is known by then"
        run(composed(*chosen, f"results={live}"))
        sent = len(server.requests)
        run(composed(*chosen, f"results={whole}"))
    assert summary(live)["stopped"] == "budget" and summary(live)["samples"] == 16
    assert journal(live) == journal(whole)
    assert sent == len(server.requests) - sent == summary(whole)["requests"], "nothing was asked twice or in vain"


def test_ctrl_c_and_kill_9_lose_only_calls_in_flight(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    env = {"TEST_KEY": KEY, "PATH": os.environ["PATH"]}
    with misbehaving(*["good"] * 6, always="held") as server:
        server.text = TILES
        chosen = overrides(server, *ESTIMATED, "providers.local.timeout_secs=3600")
        for number, known in ((signal.SIGINT, 6), (signal.SIGKILL, 6)):
            before = len(server.requests)
            process = subprocess.Popen(command(tmp_path, *chosen), cwd=ROOT, stderr=subprocess.PIPE, text=True, env=env)
            expected = known + 4 if not before else 4
            while process.poll() is None and len(server.requests) < before + expected:
                time.sleep(0.01)
            process.send_signal(number)
            _, said = process.communicate()  # although answers are awaited
            assert len(read_growing(recording(tmp_path) / "llm.jsonl")) == known
            if number == signal.SIGINT:
                assert process.returncode == 130 and "Traceback" not in said
                assert said.count("interrupted; the same command resumes where it stopped") == 1
        server.always = "good"
        server.gate.set()
        run(composed(*chosen, f"results={tmp_path}"))
        in_vain = 2 * 4
        assert len(server.requests) - in_vain == len(read_lines(recording(tmp_path) / "llm.jsonl"))
    assert summary(tmp_path)["samples"] == 16


def test_what_will_not_heal_stops_the_run_with_the_way_out_and_it_resumes(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with misbehaving("good", "good", "401") as server:
        server.text = ANSWER
        chosen = overrides(server)
        stopped = ran(tmp_path, *chosen)
        assert stopped.returncode == 1
        assert "check TEST_KEY" in stopped.stderr and "Traceback" not in stopped.stderr and KEY not in stopped.stderr
        config = composed(*chosen, f"results={tmp_path}")
        monkeypatch.setenv("TEST_KEY", "")
        with pytest.raises(ProviderError, match="environment variable TEST_KEY"):
            run(config)
        monkeypatch.setenv("TEST_KEY", KEY)
        run(config)
    sent = Counter(json.dumps(request) for request in server.requests)
    assert max(sent.values()) == 2 and sum(times == 2 for times in sent.values()) == 1


def test_models_without_a_usable_answer_are_named_at_the_end_of_a_run_and_of_its_replay(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with misbehaving(always="tool call") as server:
        chosen = overrides(server)
        run(composed(*chosen, f"results={tmp_path / 'live'}"))
    live = [line for line in capsys.readouterr().err.splitlines() if "were unusable" in line]
    assert len(live) == 2 and all("are tool calls instead of text" in line for line in live)
    run(composed(*chosen, f"results={moved(tmp_path / 'live', tmp_path / 'replayed')}", "record=replay"))
    assert [line for line in capsys.readouterr().err.splitlines() if "were unusable" in line] == live
    assert journal(tmp_path / "live") == journal(tmp_path / "replayed")


def test_a_replay_builds_no_client(
    over: Live, composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> Any:
        raise AssertionError("a replay builds no client")

    monkeypatch.setattr(openai_client, "OpenAIClient", never)
    run(composed(*over.chosen, f"results={moved(over.results, tmp_path)}", "record=replay"))
    assert journal(over.results) == journal(tmp_path)


def test_a_live_model_is_asked_again_in_other_orders_with_and_without_a_schema(
    over: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with misbehaving() as server:
        server.text = ANSWER
        command_line = ["--out", str(tmp_path), "--results", str(over.results), "--experiment", "adhoc"]
        asked = [*command_line, "--workload", "deepseek_r1_moe", "--prompts", "3", *overrides(server)]
        assert answers.main(asked) == 0
    rows = list(csv.DictReader((tmp_path / "answers.csv").read_text().splitlines()))
    assert [(r["condition"], r["answers"], r["valid"]) for r in rows] == [
        ("schema", "3", "1.0"),
        ("schema, another order", "3", "1.0"),
        ("free", "3", "1.0"),
    ]
    same = [row["same_under_another_order"] for row in rows]
    assert same == ["1.0", "1.0", ""], "this server always says the same"
    assert 0 < float(rows[0]["first_by_chance"]) < 1
    requests = server.requests
    assert ["response_format" in r for r in requests] == [True] * 6 + [False] * 3
    messages = [request["messages"] for request in requests]
    assert messages[:3] != messages[3:6], "one prompt alone may draw its own order again"


def test_a_sweep_with_a_limit_runs_seed_by_seed_and_begins_no_round_that_it_cannot_pay_for(tmp_path: Path) -> None:
    def runs() -> list[str]:
        return sorted(path.parent.name[-2:] for path in tmp_path.rglob("summary.json"))

    with misbehaving() as server:
        server.text = ANSWER
        chosen = ("-m", *(each for each in overrides(server) if each != "run=live"))
        first = ran(tmp_path, *chosen, "seed=0")
        assert first.returncode == 0, first.stderr
        paid = len(server.requests)
        cut = ran(tmp_path, *chosen, "seed=0,1", f"budget.sweep.calls={paid + 1}")
        assert (cut.returncode, len(server.requests), runs()) == (0, paid, ["s0"]), cut.stderr
        assert f"is not begun: budget.sweep.calls={paid + 1} leaves 1, {paid} are expected" in cut.stderr
        whole = ran(tmp_path, *chosen, "seed=0,1", f"budget.sweep.calls={4 * paid}")
        assert (whole.returncode, runs()) == (0, ["s0", "s1"]), whole.stderr
    assert "rounds: 2, one after the other for seed=0,1" in whole.stderr
    assert whole.stdout.count("deepseek_r1_moe/cpu-colt-mine-") == 2, "one table for both rounds"
