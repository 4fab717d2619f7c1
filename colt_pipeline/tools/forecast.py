"""What live calls will take: ``python -m colt_pipeline.tools.forecast experiment=cpu budget=paper``.

It takes the arguments of ``python -m colt_pipeline.tune``, which prints the same before the first call of a live sweep.
Nothing is asked, measured or compiled: tokens and calls per sample are those of recorded runs, the nearest that there
are. What is recorded of a run itself is not counted again. Every number is an estimate:

- Samples are scaled linearly, though prompts grow a little with the tree.
- Recorded tokens of stand-ins are characters / 4, without the JSON schema that some models are sent, with the prompt.*
  of the recording. Stand-ins answer with a bare JSON object; models that reason write far more, so there is also the
  cost if every answer has llm.max_tokens.
- Calls that fail and are tried again, and discounts for cached prompts, are left out.
- A call takes the seconds that recorded calls of the model took, or ASSUMED_CALL_SECS. A sample takes its recorded runs
  on the device and BUILD_SECS; nothing where latencies are estimated. The search's own time is left out.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from colt_pipeline.app import aligned, with_message
from colt_pipeline.config.compose import runs, strict_overrides_of
from colt_pipeline.config.schema import Config, PricesConfig
from colt_pipeline.errors import ColtError, ConfigError
from colt_pipeline.llm.entry import is_answered, with_defaults
from colt_pipeline.records import EMBEDDED
from colt_pipeline.runs.costs import Estimate, Tokens, configured_prices, scaled
from colt_pipeline.runs.jsonl import PACKED, read_growing
from colt_pipeline.runs.layout import ANSWERS, MEASUREMENTS, recordings_in

ASSUMED_CALL_SECS = 5.0
"""Seconds of a call, an assumption: none of a paid model has been recorded."""
BUILD_SECS = 0.46
"""Seconds to build and check a program: `stages.benchmarks.measurement`, Llama-3-8B attention, two builders."""
NOTHING = "nothing to pay: stand-ins answer (stand_ins=true), or everything is replayed"
_COLUMNS = ("workload", "search", "models", "runs", "calls", "prompt", "answers", "USD", "USD, longest", "hours")
_NO_PRICE = PricesConfig(0.0, 0.0, "", "")
_SAME = "the same run with other samples or seeds"
_NOT_SAMPLES = 2
"""Lines of a ledger that are not samples: its header and the unoptimized program."""


@dataclass
class Recorded:
    """Recorded runs, pooled."""

    runs: int = 0
    samples: int = 0
    tokens: dict[str, list[Tokens]] = field(default_factory=lambda: defaultdict(list))
    """By model, one per call."""
    call_secs: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By model, of calls that no stand-in answered."""
    device_secs: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """What is left to pay of one run."""

    config: Config
    likely: Estimate
    longest: Estimate
    """If every answer has llm.max_tokens."""
    hours: float
    basis: str
    """Which recordings say so; "" if the run is recorded to its end."""


def is_live(config: Config) -> bool:
    """Whether the run may ask models themselves."""
    return config.record.mode != "replay" and any(m.provider in config.providers for m in config.model_specs)


def forecast(config: Config) -> Forecast:
    """What is left of a live run.

    Raises:
        ConfigError: nothing is recorded that tells anything.
        JournalError: a recording is broken.
    """
    root = recordings_in(config.results)
    own = recorded(root, f"{config.experiment}/{config.run}")
    left = config.samples - (0 if config.record.mode == "all" else min(own.samples, config.samples))
    if not left:
        return Forecast(config, Estimate(), Estimate(), 0.0, "")
    known, basis, same = _nearest(config, root)
    names = [model.name for model in config.model_specs]
    prices = {name: price or _NO_PRICE for name, price in configured_prices(config).items()}
    tokens, samples = known.tokens, float(known.samples)
    if not same and set(tokens) != set(names):
        pool = [call for calls in tokens.values() for call in calls]
        tokens, samples = dict.fromkeys(names, pool), samples * len(names)
        basis += ", calls divided evenly between the models"
    likely, longest = scaled(tokens, samples, left, prices, config.llm.max_tokens)
    secs = left * (known.device_secs / known.samples + (BUILD_SECS if known.device_secs else 0.0))
    for name, calls in tokens.items():
        took = known.call_secs.get(name)
        secs += len(calls) * left / samples * (fmean(took) if took else ASSUMED_CALL_SECS)
    return Forecast(config, likely, longest, secs / 3600, basis)


def _nearest(config: Config, root: Path) -> tuple[Recorded, str, bool]:
    """The recorded runs most like this one, what they are, and whether they differ in samples and seed only."""
    own = config.run.removesuffix(f"-n{config.samples}-s{config.seed}")
    kin = "colt" if config.search.candidates else "paper"  # two calls per sample, or one
    for pattern, basis in (
        (f"{config.experiment}/{own}-n*-s*", _SAME),
        (f"*/{config.workload.name}/*-{config.search.name}-*", "the same search of this workload"),
        (f"*/{config.workload.name}/*-{kin}-*", f"search={kin} of this workload"),
        (f"*/*/*-{kin}-*", f"search={kin} of other workloads"),
    ):
        known = recorded(root, pattern)
        if any(known.tokens.values()):
            return known, f"{basis} ({known.runs} recorded runs, {known.samples} samples)", basis == _SAME
    raise ConfigError(f"nothing is recorded below {root} that could tell what {config.run} will take")


@cache
def recorded(root: Path, pattern: str) -> Recorded:
    """All runs below ``root/DEVICE`` whose directory matches `pattern`.

    Raises:
        JournalError: a recording is broken.
    """
    found = Recorded()
    for ledger in sorted(root.glob(f"*/{pattern}/{MEASUREMENTS}")):
        header, *programs = read_growing(ledger) or [{}]
        found.runs += 1
        found.samples += max(0, len(programs) + 1 - _NOT_SAMPLES)
        if header.get("measurement") == "measured":
            found.device_secs += sum(sum(program["run_secs"]) for program in programs)
        for answer in _answers(ledger.parent):
            model = answer["model"]
            found.tokens[model].append(Tokens(answer["prompt_tokens"], answer["completion_tokens"]))
            if answer["backend"] != EMBEDDED:
                found.call_secs[model].append(answer["latency_secs"])
    return found


def _answers(recording: Path) -> Iterable[dict[str, Any]]:
    for name in (ANSWERS, ANSWERS + PACKED):
        entries = map(with_defaults, read_growing(recording / name))
        yield from filter(is_answered, entries)


def table(forecasts: Sequence[Forecast]) -> str:
    """The forecast in words: a line per workload, search and model set, the sum, and what it rests on."""
    done = sum(not f.basis for f in forecasts)
    groups: dict[tuple[str, ...], list[Forecast]] = defaultdict(list)
    for each in forecasts:
        groups[each.config.workload.name, each.config.search.name, each.config.model_set].append(each)
    cells: list[tuple[str, ...]] = [_COLUMNS]
    cells += [(*names, *_sums(group)) for names, group in groups.items()]
    cells.append(("all", "", "", *_sums(forecasts)))
    bases = dict.fromkeys(f.basis for f in forecasts if f.basis)
    unpriced = {n for f in forecasts for n, price in configured_prices(f.config).items() if price is None}
    return "\n".join(
        [
            f"forecast, an estimate: {len(forecasts)} runs, {done} of them recorded to their end; tokens in millions",
            *aligned(cells),
            f"longest: if every answer had llm.max_tokens={max(f.config.llm.max_tokens for f in forecasts)}",
            f"hours: {ASSUMED_CALL_SECS:g} s per call (an assumption) where no call of the model is recorded",
            *(f"without a price, counted as free: {name}" for name in sorted(unpriced)),
            *(f"from: {basis}" for basis in list(bases)[:5]),
            *([f"and {len(bases) - 5} more like these"] if len(bases) > 5 else []),
        ]
    )


def _sums(forecasts: Sequence[Forecast]) -> tuple[str, ...]:
    likely = sum((f.likely for f in forecasts), Estimate())
    longest = sum((f.longest for f in forecasts), Estimate())
    tokens = (f"{likely.prompt_tokens / 1e6:.2f}", f"{likely.completion_tokens / 1e6:.2f}")
    usd = (f"{likely.usd:.2f}", f"{longest.usd:.2f}")
    return str(len(forecasts)), f"{likely.calls:.0f}", *tokens, *usd, f"{sum(f.hours for f in forecasts):.1f}"


def announce(configs: Sequence[Config]) -> None:
    """Say what the live ones of these runs will take, before they start; nothing where none is."""
    if live := [config for config in configs if is_live(config)]:
        try:
            words = table([forecast(config) for config in live])
        except ColtError as error:
            words = f"no forecast: {error}"
        print(words, file=sys.stderr, flush=True)


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Print the forecast; exit status 1 with a message when there is none."""
    arguments = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    live = [config for config in runs(strict_overrides_of(arguments)) if is_live(config)]
    print(table([forecast(config) for config in live]) if live else NOTHING)
    return 0


if __name__ == "__main__":
    sys.exit(main())
