"""The results of a run, derived from its state: curve, calls per model, summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from colt_pipeline.records import NO_MODEL, REJECTIONS, ModelSpec
from colt_pipeline.runs.costs import Cost, Prices, Tokens
from colt_pipeline.runs.events import Event, spent, with_calls
from colt_pipeline.search.state import State

CURVE_COLUMNS = ("sample", "latency_secs", "best_secs", "speedup", "measurement")
CALL_HEAD = (
    "model",
    "parameters_b",
    "is_largest",
    "backend",
    "regular_calls",
    "course_alterations",
    "hits",
    "hit_rate",
    "errors",
)
CALL_TAIL = (
    "prompt_tokens",
    "completion_tokens",
    "alteration_prompt_tokens",
    "alteration_completion_tokens",
    "llm_secs",
    "alteration_llm_secs",
    "usd",
    "alteration_usd",
    "children",
    "regressions",
    "estimated_usd",
)
CALL_COLUMNS = (*CALL_HEAD, *REJECTIONS, *CALL_TAIL)
SPAN = 8
"""Calls that `turns` counts together."""
ALTERATIONS = "course alterations"
"""The column of `turns` for course alterations, whichever model they replace."""


def curve(state: State) -> list[dict[str, Any]]:
    """One row of CURVE_COLUMNS per sample: its latency, best so far and speedup so far.

    The latency is None for an error, and for a call that led to nothing. Where samples are calls, the best includes the
    initial programs from the start, because they cost none.
    """
    assert state.started is not None
    rows, best = [], _best_initial(state) if state.counts_calls else None
    for number, program in enumerate(sampled(state), start=1):
        latency = _latency_secs(state, program)
        if latency is not None:
            best = latency if best is None else min(best, latency)
        speedup = None if best is None else state.started.baseline_secs / best
        row = {"sample": number, "latency_secs": latency, "best_secs": best, "speedup": speedup}
        rows.append({**row, "measurement": state.started.measurement})
    return rows


def sampled(state: State) -> Sequence[str | None]:
    """The program of each sample of the budget; None for a call that led to nothing."""
    return state.led_to if state.counts_calls else [sample.program for sample in state.samples]


def _latency_secs(state: State, program: str | None) -> float | None:
    number = None if program is None else state.numbers.get(program)
    return None if number is None else state.samples[number].latency_secs


def _best_initial(state: State) -> float | None:
    """The best latency of programs that no call led to."""
    called = set(state.led_to)
    latencies = [s.latency_secs for s in state.samples if s.program not in called and s.latency_secs is not None]
    return min(latencies, default=None)


def calls(
    state: State, models: Sequence[ModelSpec], largest: str, costs: Mapping[str, Cost], prices: Prices
) -> list[dict[str, Any]]:
    """One row of CALL_COLUMNS per model: calls, hits, errors by kind, tokens, seconds, USD.

    Args:
        state: a finished search.
        models: the model set, in order.
        largest: name of the largest model.
        costs: model -> what its answers cost.
        prices: model -> its configured price, even if something else answers; estimated_usd is based on these.
    """
    rows = []
    for model in models:
        if model == NO_MODEL:
            continue
        stats, price = state.stats[model.name], prices.get(model.name)
        tokens = Tokens(stats.prompt_tokens, stats.completion_tokens)
        rows.append(
            {
                "model": model.name,
                "parameters_b": model.parameters_b,
                "is_largest": model.name == largest,
                "backend": model.provider,
                "regular_calls": stats.regular_calls,
                "course_alterations": stats.course_alterations,
                "hits": stats.hits,
                "hit_rate": stats.hit_rate,
                "errors": stats.errors,
                **{kind: stats.rejections[kind] for kind in REJECTIONS},
                "prompt_tokens": stats.prompt_tokens,
                "completion_tokens": stats.completion_tokens,
                "alteration_prompt_tokens": stats.alteration_prompt_tokens,
                "alteration_completion_tokens": stats.alteration_completion_tokens,
                **asdict(costs.get(model.name, Cost())),
                "children": stats.children,
                "regressions": stats.regressions,
                "estimated_usd": None if price is None else tokens.usd(price),
            }
        )
    return rows


def turns(events: Iterable[Event], counts_calls: bool) -> list[dict[str, int]]:
    """Which models were called, by number of samples spent so far.

    Args:
        events: of a run.
        counts_calls: whether its samples are calls, see ``search.sample``.

    Returns:
        One row per number of samples at which calls were made, where samples are calls in spans of `SPAN`: sample, the
        regular calls of every model called in the run, and ALTERATIONS.
    """
    samples, counts = 0, dict[int, Counter[str]]()
    for event, calls in with_calls(events):
        begin = samples // SPAN * SPAN if counts_calls else samples
        for call in calls:
            counts.setdefault(begin, Counter())[call.model if call.role == "regular" else ALTERATIONS] += 1
        samples += spent([event], counts_calls)
    called = sorted({name for own in counts.values() for name in own} - {ALTERATIONS})
    return [
        {"sample": sample, **{name: own[name] for name in (*called, ALTERATIONS)}} for sample, own in counts.items()
    ]


def turn_columns(rows: Sequence[Mapping[str, int]]) -> list[str]:
    """The columns of the rows that `turns` returned; without rows, those that always exist."""
    return list(rows[0]) if rows else ["sample", ALTERATIONS]


def summary(
    state: State, models: Sequence[ModelSpec], largest: str, flop: int, costs: Mapping[str, Cost]
) -> dict[str, Any]:
    """The run in numbers: seconds, GFLOP/s, counts, USD."""
    assert state.started is not None
    best = state.best
    best_secs = None if best is None else best.latency_secs
    rejections: Counter[str] = Counter()
    for stats in state.stats.values():
        rejections.update(stats.rejections)
    asked = {m.name: state.stats[m.name] for m in models if m != NO_MODEL}
    by_calls = {"sample_unit": "call", "programs": len(state.samples), "initial_secs": _best_initial(state)}
    return {
        **(by_calls if state.counts_calls else {}),
        "samples": state.spent,
        "stopped": state.finished,
        "baseline_secs": state.started.baseline_secs,
        "best_secs": best_secs,
        "speedup": state.speedup,
        "best_sample": None if best is None else _number(state, best.program),
        "best_program": None if best is None else best.program,
        "gflops": None if best_secs is None else flop / best_secs / 1e9,
        "llm_backend": ", ".join(sorted({m.provider for m in models})) or "none",
        "measurement": state.started.measurement,
        "device": state.started.device,
        "steps": state.steps,
        "regular_calls": sum(s.regular_calls for s in asked.values()),
        "course_alterations": sum(s.course_alterations for s in asked.values()),
        "prompt_tokens": sum(s.prompt_tokens for s in asked.values()),
        "completion_tokens": sum(s.completion_tokens for s in asked.values()),
        "llm_secs": sum(c.llm_secs for c in costs.values()),
        "usd": _total(costs[name].usd for name in asked if name in costs),
        "small_model_calls": sum(s.regular_calls for name, s in asked.items() if name != largest),
        "rejections": dict(sorted(rejections.items())),
        "sample_errors": dict(sorted(Counter(s.error for s in state.samples if s.error).items())),
    }


def _number(state: State, program: str) -> int:
    """Which sample of the budget led to a program; 0 for an initial one that cost none."""
    programs = list(sampled(state))
    return programs.index(program) + 1 if program in programs else 0


def _total(usd: Iterable[float | None]) -> float | None:
    """The sum; None if a price is missing or there are none."""
    values = list(usd)
    return None if not values or None in values else sum(v for v in values if v is not None)
