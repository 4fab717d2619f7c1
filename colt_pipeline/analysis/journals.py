"""What the comparison of runs needs of a journal, and of the recordings that the run was made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from colt_pipeline.config.schema import PricesConfig
from colt_pipeline.errors import ConfigError
from colt_pipeline.runs.costs import Tokens
from colt_pipeline.runs.events import Event, Measured, Stepped
from colt_pipeline.runs.jsonl import read_lines

ALTERATIONS = "course alterations"
"""The column of `turns` for calls that are nobody's turn."""


def children(events: Iterable[Event]) -> pd.DataFrame:
    """Whose regular calls led to programs, and how often to a regression (predicted score below the parent's).

    Returns:
        Index model; columns children, regressions. A child that a course alteration pruned is its maker's all the same.
    """
    made: Counter[str] = Counter()
    regressed: Counter[str] = Counter()
    for event in events:
        if not isinstance(event, Stepped) or not event.calls:
            continue
        child = event.pruned or event.child  # without a pruned one the child, if any, is the regular call's
        if child is not None:
            made[event.calls[0].model] += 1
            regressed[event.calls[0].model] += child.score < child.parent_score
    models = pd.Index(list(made), dtype="str", name="model")
    numbers = [{"children": made[model], "regressions": regressed[model]} for model in models]
    return pd.DataFrame(numbers, index=models, columns=["children", "regressions"])


def turns(events: Iterable[Event]) -> pd.DataFrame:
    """Who was called while how many programs were measured.

    Returns:
        One row per number of measured samples at which there were calls: sample, a column of regular calls per model
        that was called, and ALTERATIONS.
    """
    samples, counts = 0, dict[int, Counter[str]]()
    for event in events:
        if isinstance(event, Measured):
            samples += len(event.samples)
        elif isinstance(event, Stepped):
            for call in event.calls:
                counts.setdefault(samples, Counter())[call.model if call.role == "regular" else ALTERATIONS] += 1
    return pd.DataFrame([{"sample": sample, **own} for sample, own in counts.items()])


def timed_secs(recordings: Path | None, summary: dict[str, Any]) -> float:
    """Seconds that the timed runs of a run's samples took, by its recording; NaN where there is none."""
    if recordings is None:
        return float("nan")
    run_dir = recordings / str(summary["device"]) / str(summary["experiment"]) / str(summary["run"])
    header, *lines = read_lines(run_dir / "measurements.jsonl") or [{}]
    if not lines:
        return float("nan")
    baseline = header["workload_hash"]  # the key of the unoptimized program, which is measured before the search
    return float(sum(sum(line["run_secs"]) for line in lines if not baseline.startswith(line["program"])))


def read_prices(models: Path) -> dict[str, PricesConfig]:
    """Model -> its price, of all files in conf/models that give one.

    Raises:
        ConfigError: There is no such directory, or a file in it is not what it should be.
    """
    if not models.is_dir():
        raise ConfigError(f"{models} is not a directory; name the one that holds a file per model, such as conf/models")
    prices: dict[str, PricesConfig] = {}
    for path in sorted(models.glob("*.yaml")):
        try:
            entries = yaml.safe_load(path.read_text(encoding="utf-8"))
            prices |= {str(name): PricesConfig(**model["prices"]) for name, model in entries.items() if model["prices"]}
        except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} gives no model with its prices ({error}); restore it") from error
    return prices


def estimated_usd(calls: pd.DataFrame, prices: dict[str, PricesConfig]) -> list[float]:
    """What the tokens of each row of calls cost at these prices; NaN for a model without one."""
    return [
        Tokens(prompt, completion).usd(prices[model]) if model in prices else float("nan")
        for model, prompt, completion in calls[["model", "prompt_tokens", "completion_tokens"]].itertuples(index=False)
    ]
