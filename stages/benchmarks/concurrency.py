"""What calls at the same time gain, and what they cost: ``llm.concurrency``.

Time: a local server that speaks the OpenAI API answers every call after the same time, by the stand-ins; latencies are
computed for a GPU, so a run does little but wait. Quality: the best estimated latency after the same number of samples,
answered by the stand-ins without a wait, because a search that asks before it knows the answers to earlier questions
knows less.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.job import batches
from colt_pipeline.llm.client import Question
from colt_pipeline.llm.embedded import EmbeddedClient
from colt_pipeline.records import EMBEDDED, ModelSpec
from stages.benchmarks import Row, command_line, names, positive, write_rows

_COMPUTED = ("target=gpu", "device=estimate")


class _Answers:
    """The stand-ins behind a server."""

    def __init__(self, models: Sequence[ModelSpec], secs: float) -> None:
        self._models = {model.api_model: model for model in models}
        self._secs = secs
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def to(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A chat completion, after the time that it takes."""
        time.sleep(self._secs)
        question = Question(self._models[request["model"]], request["messages"], {})
        with self._lock:
            occurrence = self._asked[question.key]
            self._asked[question.key] += 1
        reply = EmbeddedClient().complete(question, occurrence)
        message = {"role": "assistant", "content": reply.text}
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
        choices = [{"index": 0, "message": message, "finish_reason": reply.finish_reason}]
        return {"id": "1", "object": "chat.completion", "model": request["model"], "choices": choices, "usage": usage}


class _Handler(BaseHTTPRequestHandler):
    answers: _Answers

    def do_POST(self) -> None:
        body = json.dumps(self.answers.to(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@contextmanager
def _served(models: Sequence[ModelSpec], secs: float) -> Iterator[str]:
    """The base URL of a server whose answers take this long."""
    handler = type("Handler", (_Handler,), {"answers": _Answers(models, secs)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/v1"
        finally:
            http.shutdown()
            thread.join()


def rows(
    workloads: Sequence[str],
    model_set: str,
    samples: int,
    seeds: int,
    concurrency: Sequence[str],
    secs: float,
    overrides: Sequence[str],
) -> list[Row]:
    """The wall-clock of one search per number of calls, and the quality of each search and seed.

    Raises:
        ColtError: a run failed.
    """
    chosen = [f"model_set={model_set}", f"samples={samples}", *_COMPUTED, *overrides]
    found = [_timed([f"workload={workloads[0]}", f"llm.concurrency={n}", *chosen], secs) for n in concurrency]
    for row in found:
        row["faster"] = round(_number(found[0], "wall_secs") / _number(row, "wall_secs"), 2)
    for workload in workloads:
        first: list[float] = []
        for n in concurrency:
            of = [f"workload={workload}", f"llm.concurrency={n}", *chosen]
            runs = [_run([*of, f"seed={seed}"]) for seed in range(seeds)]
            best = [_number(run, "best_ms") for run in runs]
            first = first or best
            worse = statistics.geometric_mean(now / then for now, then in zip(best, first, strict=True))
            found += [{"what": "quality", "seed": seed, **run} for seed, run in enumerate(runs)]
            found.append(
                {"what": "quality, all seeds", "workload": workload, "samples": samples, "concurrency": n}
                | {"best_ms": round(statistics.geometric_mean(best), 4), "slower_kernel": round(worse, 3)}
                | {"latencies": "estimated"}
            )
    return found


def _number(row: Row, column: str) -> float:
    value = row[column]
    assert isinstance(value, float)
    return value


def _timed(overrides: Sequence[str], secs: float) -> Row:
    """One run whose models are served."""
    models = composed([*overrides, "stand_ins=false"]).model_specs
    with _served(models, secs) as base_url:
        providers = sorted({model.provider for model in models})
        served = [f"providers.{name}.{key}" for name in providers for key in (f"base_url={base_url}", "key_env=''")]
        run = _run([*overrides, "stand_ins=false", *served])
    return {"what": "time", "seed": 0, "answer_secs": secs, **run, "slower_kernel": None}


def _run(overrides: Sequence[str]) -> Row:
    """One run of its own, in a temporary directory."""
    with tempfile.TemporaryDirectory() as scratch:
        config = composed([*overrides, f"results={scratch}"])
        with assemble(config) as job:
            begin = time.monotonic()
            for _ in batches(job):
                pass
            took = time.monotonic() - begin
            stats, best = job.state.stats.values(), job.state.best_secs
    return {
        "workload": config.workload.name,
        "samples": config.samples,
        "concurrency": config.llm.concurrency,
        "calls": sum(s.regular_calls for s in stats),
        "course_alterations": sum(s.course_alterations for s in stats),
        **({} if _is_embedded(config) else {"wall_secs": round(took, 1)}),
        "best_ms": round(best * 1e3, 6),
        "latencies": "estimated",
    }


def _is_embedded(config: Config) -> bool:
    return all(model.provider == EMBEDDED for model in config.model_specs)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.concurrency --out results/benchmark``."""
    parser = command_line(__doc__)
    default = ("llama3_8b_attention", "deepseek_r1_moe", "flux_conv")
    parser.add_argument("--workloads", type=names, default=default, help="comma-separated; the first one is timed")
    parser.add_argument("--model-set", default="8")
    parser.add_argument("--samples", type=positive, default=40, help="samples per search")
    parser.add_argument("--seeds", type=positive, default=3, help="searches whose quality is compared")
    parser.add_argument("--concurrency", type=names, default=("1", "8"), help="comma-separated")
    parser.add_argument("--secs", type=float, default=5.0, help="how long an answer takes")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as search=paper")
    given = parser.parse_intermixed_args(argv)
    chosen = (given.workloads, given.model_set, given.samples, given.seeds, given.concurrency, given.secs)
    return write_rows(lambda: rows(*chosen, given.overrides), given.out / "concurrency.csv")


if __name__ == "__main__":
    sys.exit(main())
