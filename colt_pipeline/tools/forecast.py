"""Estimate what live calls will cost: ``python -m colt_pipeline.tools.forecast experiment=cpu budget=paper``.

Takes the same arguments as ``python -m colt_pipeline.tune``, which prints the same before a live sweep starts. Nothing
is asked, measured or compiled: tokens and calls per sample come from the most similar recorded runs. What is already
recorded of a run itself is not counted again. Every number is an estimate:

- Samples are scaled linearly, although prompts grow a little with the tree.
- Recorded tokens of stand-ins are characters / 4, without the JSON schema that some models are sent, and with the
  recording's prompt settings. Stand-ins answer with a bare JSON object; reasoning models write far more, so the cost is
  also given for answers of the maximum length.
- Retries of failed calls are not included, nor is a discount for cached prompts, unless recorded answers had it.
- With a limit in minutes, as many samples are counted as fit into it by the next rule.
- A call takes as long as recorded calls to the model, or ASSUMED_CALL_SECS; n calls at the same time
  (llm.concurrency) are 1 + PARALLEL * (n - 1) times as fast. A sample takes its recorded runs on the device plus
  BUILD_SECS, or no time if latencies are estimated; concurrent calls go on meanwhile, and the longer of the two counts.
  The search's own time is not included.
"""

from __future__ import annotations

import math
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from glob import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from colt_pipeline.app import aligned, with_message
from colt_pipeline.config.arguments import command_line, sweep_command_line, with_override
from colt_pipeline.config.compose import check_overrides, possible_runs, runs
from colt_pipeline.config.schema import Config, PricesConfig
from colt_pipeline.config.spaces import check_one_space
from colt_pipeline.errors import ColtError, ConfigError, UnforeseenError
from colt_pipeline.llm.entry import is_answered, read_entry
from colt_pipeline.measurement.ledger import read_header, read_line
from colt_pipeline.records import EMBEDDED
from colt_pipeline.runs.budget import NO_LIMITS, Spent, beyond, spent_below
from colt_pipeline.runs.costs import Estimate, Tokens, configured_prices, longest_answers, scaled
from colt_pipeline.runs.events import spent
from colt_pipeline.runs.journal import read_events
from colt_pipeline.runs.jsonl import PACKED
from colt_pipeline.runs.layout import ANSWERS, JOURNAL, MEASUREMENTS, accounts_of, recordings_in, run_directory
from colt_pipeline.runs.recorded import read_typed

ASSUMED_CALL_SECS = 5.0
"""Assumed seconds per call, because no call to a paid model has been recorded."""
BUILD_SECS = 0.46
"""Seconds to build and check a program: `stages.benchmarks.measurement`, Llama-3-8B attention, two builders."""
PARALLEL = 0.8
"""Share of its time that a further concurrent call saves: `stages.benchmarks.concurrency`, with eight, rounded down."""
NOTHING = "nothing to pay: stand-ins answer (stand_ins=true), or everything is replayed"
_COLUMNS = ("workload", "search", "models", "runs", "calls", "prompt", "answers", "USD", "USD, longest", "hours")
_NO_PRICE = PricesConfig(0.0, 0.0, "", "")
_SAME = "the same run with other samples or seeds"
_NAMED = re.compile(r"-n(\d+)-s\d+$")
"""How the name of a run ends by default, with its samples."""
_SHOWN = 20
"""Runs of a round that are listed."""
_NOT_SAMPLES = 2
"""Lines of a ledger that are not samples: its header and the unoptimized program."""


@dataclass
class Recorded:
    """Recorded runs, pooled."""

    runs: int = 0
    samples: int = 0
    calls: int = 0
    """Regular calls: the answers of a run, but no more than the samples that its name says, for the others are course
    alterations if samples are calls."""
    tokens: dict[str, list[Tokens]] = field(default_factory=lambda: defaultdict(list))
    """Model -> tokens of each call."""
    call_secs: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Model -> seconds of each call that was not answered by a stand-in."""
    device_secs: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """What one run still has to pay."""

    config: Config
    likely: Estimate
    longest: Estimate
    """If every answer is as long as its model may write."""
    hours: float
    basis: str
    """The recordings it is based on; "" if the run is completely recorded."""


def is_live(config: Config) -> bool:
    """Whether the run may make live calls."""
    return config.record.mode != "replay" and any(m.provider in config.providers for m in config.model_specs)


def forecast(config: Config) -> Forecast:
    """What remains of a live run.

    Raises:
        ConfigError: there is no recording to base a forecast on.
        JournalError, RecordingError: a recording is corrupt.
    """
    root = recordings_in(config.results)
    own = recorded(root, escape(f"{config.experiment}/{config.run}"))
    left = config.samples - (0 if config.record.mode == "all" else min(_done(config, own), config.samples))
    if not left:
        return Forecast(config, Estimate(), Estimate(), 0.0, "")
    known, basis, same = nearest(config, root)
    names = [model.name for model in config.model_specs]
    prices = {name: price or _NO_PRICE for name, price in configured_prices(config).items()}
    counts_calls = config.search.sample == "call"
    tokens, samples = known.tokens, float(known.calls if counts_calls else known.samples)
    if not same and set(tokens) != set(names) or set(tokens) - set(names):
        pool = [replace(call, cached=0) for calls in tokens.values() for call in calls]
        tokens, samples = dict.fromkeys(names, pool), samples * len(names)
        basis += ", calls divided evenly between the models"
    on_device = (known.device_secs + BUILD_SECS * known.samples * bool(known.device_secs)) / samples
    waiting = 0.0
    for name, calls in tokens.items():
        took = known.call_secs.get(name)
        waiting += len(calls) / samples * (fmean(took) if took else ASSUMED_CALL_SECS)
    per_sample = _together(on_device, waiting, config.llm.concurrency)
    if config.minutes is not None and per_sample:
        left = min(left, math.ceil(config.minutes * 60 / per_sample))
    likely, longest = scaled(tokens, samples, left, prices, longest_answers(config))
    return Forecast(config, likely, longest, left * per_sample / 3600, basis)


def _done(config: Config, own: Recorded) -> int:
    """Samples that a run has behind it. What a call was for, only its journal says."""
    if config.search.sample == "program":
        return own.samples
    journal = run_directory(config.results, config.experiment, config.run) / JOURNAL
    return spent(read_events(journal), True) if journal.exists() else own.calls


def _together(on_device: float, waiting: float, concurrency: int) -> float:
    """Seconds of what takes `on_device` on the device and `waiting` seconds of calls."""
    if concurrency == 1:
        return on_device + waiting
    return max(on_device, waiting / (1 + PARALLEL * (concurrency - 1)))


def nearest(config: Config, root: Path) -> tuple[Recorded, str, bool]:
    """The most similar recorded runs, their description, and whether they differ only in samples and seed.

    Raises:
        ConfigError: there are none.
        JournalError, RecordingError: a recording is corrupt.
    """
    own = escape(config.run.removesuffix(f"-n{config.samples}-s{config.seed}"))
    kin = "colt_plus" if config.search.candidates else "paper"  # their prompts are alike
    for pattern, basis in (
        (f"{escape(config.experiment)}/{own}-n*-s*", _SAME),
        (f"*/{own}-n*-s*", "the same run of other experiments"),
        (f"*/{escape(config.workload.name)}/*-{escape(config.search.name)}-*", "the same search of this workload"),
        (f"*/*/*-{escape(config.search.name)}-*", "the same search of other workloads"),
        (f"*/{escape(config.workload.name)}/*-{kin}-*", f"search={kin} of this workload"),
        (f"*/*/*-{kin}-*", f"search={kin} of other workloads"),
    ):
        known = recorded(root, pattern)
        if any(known.tokens.values()) and known.samples:
            return known, f"{basis} ({known.runs} recorded runs, {known.samples} samples)", basis == _SAME
    raise ConfigError(f"there is no recording below {root} from which the cost of {config.run} could be estimated")


@cache
def recorded(root: Path, pattern: str) -> Recorded:
    """All runs below ``root/DEVICE`` whose directory matches `pattern`.

    Raises:
        JournalError, RecordingError: a recording is corrupt.
    """
    found = Recorded()
    for ledger in sorted(root.glob(f"*/{pattern}/{MEASUREMENTS}")):
        header = read_header(ledger)
        if header is None:
            continue
        programs = [line for (_, number), line in read_typed(ledger, read_line)[1:] if number == 0]
        found.runs += 1
        found.samples += max(0, len(programs) + 1 - _NOT_SAMPLES)
        if header["measurement"] == "measured":
            found.device_secs += sum(sum(program["run_secs"]) for program in programs)
        answers = list(_answers(ledger.parent))
        named = _NAMED.search(ledger.parent.name)
        found.calls += min(len(answers), int(named[1])) if named else len(answers)
        for answer in answers:
            model = answer["model"]
            counts = (answer["prompt_tokens"], answer["completion_tokens"], answer.get("cached_tokens", 0))
            found.tokens[model].append(Tokens(*counts))
            if answer["backend"] != EMBEDDED:
                found.call_secs[model].append(answer["latency_secs"])
    return found


def _answers(recording: Path) -> Iterable[dict[str, Any]]:
    for name in (ANSWERS, ANSWERS + PACKED):
        yield from filter(is_answered, read_typed(recording / name, read_entry))


def table(forecasts: Sequence[Forecast]) -> str:
    """The forecast as text: a line per workload, search and model set, the total, and what it is based on."""
    done = sum(not f.basis for f in forecasts)
    groups: dict[tuple[str, ...], list[Forecast]] = defaultdict(list)
    for each in forecasts:
        groups[each.config.workload.name, each.config.search.name, each.config.model_set].append(each)
    cells: list[tuple[str, ...]] = [_COLUMNS]
    cells += [(*names, *_sums(group)) for names, group in groups.items()]
    cells.append(("all", "", "", *_sums(forecasts)))
    bases = dict.fromkeys(f.basis for f in forecasts if f.basis)
    most = map(str, sorted({tokens for f in forecasts for tokens in longest_answers(f.config).values()}))
    at_once = sorted({f.config.llm.concurrency for f in forecasts})
    unpriced = {n for f in forecasts for n, price in configured_prices(f.config).items() if price is None}
    return "\n".join(
        [
            f"forecast (an estimate): {len(forecasts)} runs, {done} of them completely recorded; tokens in millions",
            *aligned(cells),
            f"longest: if every answer had the most tokens that its model may write (max_tokens: {', '.join(most)})",
            f"hours: {ASSUMED_CALL_SECS:g} s per call (an assumption) if no call to the model is recorded",
            *(f"hours: with {calls} calls at the same time (llm.concurrency)" for calls in at_once if calls > 1),
            *(f"no price, counted as free: {name}" for name in sorted(unpriced)),
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
    """Print what the live ones among these runs will cost before they start; nothing if there are none."""
    if live := [config for config in configs if is_live(config)]:
        try:
            words = table([forecast(config) for config in live])
        except ColtError as error:
            words = f"no forecast: {error}"
        print("\n".join([words, *plan(live)]), file=sys.stderr, flush=True)


def in_rounds(configs: Sequence[Config]) -> list[list[Config]]:
    """The runs of a live sweep with a limit, by seed; all in one round if there is no limit, or nothing is live.

    However far the limit reaches, all configurations then have the same seeds.
    """
    if not any(is_live(config) and config.budget.sweep != NO_LIMITS for config in configs):
        return [list(configs)]
    found: defaultdict[int, list[Config]] = defaultdict(list)
    for config in configs:
        found[config.seed].append(config)
    return list(found.values())


def plan(configs: Sequence[Config]) -> list[str]:
    """The order of a sweep in rounds, and how many of them its limits are expected to allow, in lines.

    Empty if there is only one round.
    """
    rounds = in_rounds(configs)
    if len(rounds) < 2:
        return []
    limits = configs[0].budget.sweep
    given = ", ".join(f"budget.sweep.{name}={limit:g}" for name, limit in vars(limits).items() if limit is not None)
    seeds, names = ",".join(str(each[0].seed) for each in rounds), [config.run for config in rounds[0]]
    return [
        f"rounds: {len(rounds)}, one after the other for seed={seeds}; {given} {_allowed(rounds)}, and a round that is "
        "expected to take more than is left is not begun",
        "the first round, in this order:",
        *(f"  {name}" for name in names[:_SHOWN]),
        *([f"  and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []),
    ]


def _allowed(rounds: Sequence[Sequence[Config]]) -> str:
    """How many rounds the limits of a sweep are expected to pay for, as the end of a sentence."""
    try:
        total = _spent(rounds[0][0])
        for number, each in enumerate(rounds):
            expected = _expected(each)
            if beyond(each[0].budget.sweep, total, expected):
                return f"is expected to pay for {number} of them"
            total += expected
    except ColtError:
        return "pays for an unknown number of them"
    return "is expected to pay for all of them"


def affordable_rounds(configs: Sequence[Config], arguments: Sequence[str]) -> Iterator[list[str]]:
    """The command line of each round of a sweep, as long as what it is expected to take is within the limits.

    The forecast for a round knows what the rounds before it have recorded.

    Args:
        configs: the runs of the sweep.
        arguments: its command line.

    Raises:
        JournalError, RecordingError: a recording or an account is corrupt.
    """
    rounds = in_rounds(configs)
    if len(rounds) < 2:
        yield list(arguments)
        return
    for each in rounds:
        recorded.cache_clear()
        first = each[0]
        try:
            exceeded = beyond(first.budget.sweep, _spent(first), _expected(each))
        except ConfigError:
            exceeded = None  # nothing is known before the first call; each call is held to the limits anyway
        if exceeded is not None:
            what = f"the round of seed={first.seed} is not begun: budget.sweep.{exceeded}"
            print(f"{what}; the same command with a higher limit goes on", file=sys.stderr, flush=True)
            return
        yield with_override(arguments, f"seed={first.seed}")


def _expected(configs: Sequence[Config]) -> Spent:
    forecasts = [forecast(config) for config in configs if is_live(config)]
    likely = sum((f.likely for f in forecasts), Estimate())
    tokens = math.ceil(likely.prompt_tokens + likely.completion_tokens)
    return Spent(math.ceil(likely.calls), tokens, likely.usd, sum(f.hours for f in forecasts))


def _spent(config: Config) -> Spent:
    return spent_below(accounts_of(config.results, config.experiment))


def announced(arguments: Sequence[str]) -> list[Config]:
    """The runs that Hydra will start for a command line, announced; none if it only prints something.

    Raises:
        ConfigError: Hydra would refuse the command line, perhaps with a traceback; or its runs compare searches in
            different design spaces.
    """
    line = command_line(arguments)
    if not line.starts_jobs:
        check_overrides(line)
        return []
    try:
        configs = possible_runs(line)
    except UnforeseenError as error:
        print(f"no forecast: {error}", file=sys.stderr, flush=True)
        return []
    check_one_space(configs)
    announce(configs)
    return configs


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Print the forecast; exit status 1 with a message if there is none."""
    if (line := sweep_command_line(argv, __doc__)) is None:
        return 0
    live = [config for config in runs(line.overrides, line.config_dir) if is_live(config)]
    print("\n".join([table([forecast(config) for config in live]), *plan(live)]) if live else NOTHING)
    return 0


if __name__ == "__main__":
    sys.exit(main())
