"""The range of every number in a configuration, and the form of every name."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError

_MANY = 10**7
"""More than any run needs of what it counts."""
_LARGE = 2**53 - 1
"""The largest integer that every reader of JSON represents."""
_WEEK_SECS = 7 * 24 * 3600
_COMPONENT_BYTES = 255
_PATH_BYTES = 1024
"""Longest file name and path; a path leaves room for the files below it."""

RANGES: dict[str, tuple[float, float]] = {
    "samples": (1, _MANY),
    "minutes": (1e-3, 1e6),
    "seed": (0, 2**32 - 1),
    "workload.shape.*": (1, 2**31 - 1),
    "workload.bind.*": (1, 2**31 - 1),
    "target.cores": (0, _MANY),
    "target.l2_kib": (0, _MANY),
    "target.gpu.multiprocessors": (1, _MANY),
    "target.gpu.clock_ghz": (1e-3, 1e6),
    "target.gpu.fp32_lanes": (1, _MANY),
    "target.gpu.bandwidth_gb_s": (1e-3, 1e9),
    "target.gpu.l2_mib": (1e-3, 1e9),
    "target.gpu.threads_per_multiprocessor": (1, _MANY),
    "target.gpu.blocks_per_multiprocessor": (1, _MANY),
    "target.gpu.shared_kib_per_multiprocessor": (1, _MANY),
    "target.gpu.launch_us": (1e-3, 1e9),
    "search.lambda_": (0, 1),
    "search.course_rate": (0, 1),
    "search.c": (0, 1e6),
    "search.widening": (0, 1e6),
    "search.rollout_length": (0, _MANY),
    "search.candidates": (0, _MANY),
    "search.branching": (1, _MANY),
    "search.batch_size": (1, _MANY),
    "search.initial_programs": (1, _MANY),
    "search.apply_attempts": (1, _MANY),
    "search.max_failures": (1, _MANY),
    "search.warmup_samples": (1, _MANY),
    "search.draws_per_proposal": (1, _MANY),
    "search.drafts.designs": (0, _MANY),
    "search.drafts.sketches": (0, _MANY),
    "search.drafts.draws": (0, _MANY),
    "search.drafts.optimism": (0, 1e6),
    "search.drafts.generations": (1, _MANY),
    "search.drafts.elites": (1, _MANY),
    "search.evolution.num_trials_per_iter": (1, _MANY),
    "search.evolution.population_size": (1, _MANY),
    "search.evolution.init_measured_ratio": (0, 1),
    "search.evolution.init_min_unmeasured": (1, _MANY),
    "search.evolution.max_fail_count": (1, _MANY),
    "search.evolution.genetic_num_iters": (1, _MANY),
    "search.evolution.genetic_mutate_prob": (0, 1),
    "search.evolution.genetic_max_fail_count": (1, _MANY),
    "search.evolution.eps_greedy": (0, 1),
    "llm.temperature": (0, 100),
    "llm.max_tokens": (1, _MANY),
    "llm.top_p": (1e-6, 1),
    "llm.seed": (-_LARGE, _LARGE),
    "llm.concurrency": (1, 64),
    "budget.run.calls": (0, _LARGE),
    "budget.run.tokens": (0, _LARGE),
    "budget.run.usd": (0, 1e9),
    "budget.run.hours": (0, 1e6),
    "budget.sweep.calls": (0, _LARGE),
    "budget.sweep.tokens": (0, _LARGE),
    "budget.sweep.usd": (0, 1e9),
    "budget.sweep.hours": (0, 1e6),
    "budget.warmup_samples": (1, _MANY),
    "measure.min_repeats": (1, _MANY),
    "measure.max_repeats": (1, _MANY),
    "measure.max_spread": (0, 1e6),
    "measure.min_repeat_secs": (0, _WEEK_SECS),
    "measure.budget_secs": (0, _WEEK_SECS),
    "measure.slower": (0, 1e6),
    "measure.racing": (0, 1e6),
    "measure.cache_flush_mib": (0, _MANY),
    "measure.build_timeout_secs": (1e-3, _WEEK_SECS),
    "measure.run_timeout_secs": (1e-3, _WEEK_SECS),
    "measure.memory_mib": (1, _MANY),
    "measure.builders": (0, 4096),
    "measure.cold_runs": (0, _MANY),
    "measure.confirm": (0, 1000),
    "rpc.port": (1, 65535),
    "rpc.timeout_secs": (0, _WEEK_SECS),
    "models.*.parameters_b": (1e-4, 1e6),
    "models.*.context_length": (0, 1e9),
    "models.*.prices.input": (0, 1e6),
    "models.*.prices.output": (0, 1e6),
    "models.*.prices.cached_input": (0, 1e6),
    "providers.*.timeout_secs": (1e-3, _WEEK_SECS),
    "providers.*.attempts": (1, 1000),
    "providers.*.max_bytes": (1, _LARGE),
}
"""Key -> its least and greatest value; * stands for the name of a model, provider or size."""
_ANY = (-_LARGE, _LARGE)


def _path(text: str) -> str | None:
    too_long = any(len(os.fsencode(part)) > _COMPONENT_BYTES for part in text.split("/"))
    if too_long or len(os.fsencode(text)) > _PATH_BYTES:
        return f"has {len(text)} characters, which is too long for a path"
    return None if text else "is empty; it must be a directory"


def _run(text: str) -> str | None:
    parts = text.split("/")
    if all(part and not part.startswith((".", "-")) for part in parts):
        return _path(text)
    return (
        "is not a valid name; experiment and run are directories below results/, whose names begin neither with a dot "
        "nor with a dash"
    )


def _word(text: str) -> str | None:
    return None if text.strip() else "is empty"


def _variable(text: str) -> str | None:
    return None if re.fullmatch(r"\w*", text) else "is not the name of an environment variable"


def _module(text: str) -> str | None:
    return None if all(part.isidentifier() for part in text.split(".")) else "is not the name of a module"


FORMS: dict[str, Callable[[str], str | None]] = {
    "experiment": _run,
    "run": _run,
    "results": _path,
    "pretraining": _path,
    "start_from": _path,
    "device": _word,
    "plugins": _module,
    "workload.name": _word,
    "workload.function": _word,
    "target.name": _word,
    "search.name": _word,
    "space.name": _word,
    "models.*.api_model": _word,
    "providers.*.output_limit": _word,
    "providers.*.key_env": _variable,
}
"""Key -> what is wrong with its text, if anything; * as in `RANGES`."""
_CONTROL = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, lone surrogates, and separators of lines and paragraphs."""
_FREE = "models.*.extra"
"""A request's further parameters, which may be anything."""


def check_ranges(config: Config) -> None:
    """Check every number and every text of a configuration by itself.

    Raises:
        ConfigError: one is out of range or malformed.
    """
    for key, pattern, value in _leaves("", "", config):
        if isinstance(value, str):
            _check_text(key, value, FORMS.get(pattern))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            check_range(key, pattern, value)


def check_range(key: str, pattern: str, value: float) -> None:
    """Check one number, of the range that `RANGES` has for `pattern`.

    Raises:
        ConfigError: it is out of range, or not a number at all (NaN).
    """
    least, most = RANGES.get(pattern, _ANY)
    if not value >= least:
        raise ConfigError(f"{key}={value} must be at least {least:g}")
    if value > most:
        raise ConfigError(f"{key}={value} must be at most {most:g}")


def _check_text(key: str, text: str, problem: Callable[[str], str | None] | None) -> None:
    if any(unicodedata.category(character) in _CONTROL for character in text):
        raise ConfigError(f"{key}={text!a} contains a control character")
    if problem and (what := problem(text)):
        shown = text if len(text) < 100 else f"{text[:80]}..."
        raise ConfigError(f"{key}={shown} {what}")


def _leaves(key: str, pattern: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Key, key in the tables, and value of each number and text below `key`, including names in mappings."""
    if pattern == _FREE:
        return
    if is_dataclass(value):
        for each in fields(value):
            yield from _leaves(_joined(key, each.name), _joined(pattern, each.name), getattr(value, each.name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield f"{key}: name", "", name
            yield from _leaves(_joined(key, name), _joined(pattern, "*"), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(key, pattern, inner)
    else:
        yield key, pattern, value


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
