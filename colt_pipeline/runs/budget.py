"""What live calls cost: written to disk before a call is sent, and refused beyond a limit.

``spend.jsonl`` is stored with a run's recording. Each session of the run begins with the price table it uses; each
attempt gets one line before it is sent, with the most it can cost, and one afterwards, with its actual cost. If the
process is killed in between, the attempt counts at its upper bound. Replayed calls and stand-ins cost nothing and do
not appear.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Condition
from typing import Any

from colt_pipeline.config.schema import BudgetConfig, LimitsConfig, PricesConfig
from colt_pipeline.errors import BudgetError, ConfigError, LLMError, TransientError
from colt_pipeline.runs.costs import NO_TOKENS, Tokens, read_account
from colt_pipeline.runs.jsonl import JsonLines
from colt_pipeline.runs.layout import SPENDING
from colt_pipeline.serialization import written

_SECS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Spent:
    """What live calls have cost so far; failed attempts are calls too."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    """For models that have a price."""
    hours: float = 0.0
    """Wall-clock time of the sessions, each from its first call to its last."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def spent(records: Iterable[Mapping[str, Any]]) -> Spent:
    """The total of a ``spend.jsonl``: the last line of each attempt counts, and the last time of each session."""
    attempts: dict[tuple[int, int], Mapping[str, Any]] = {}
    clocks: dict[int, float] = {}
    session = 0
    for record in records:
        if "prices" in record:
            session += 1
            continue
        attempts[session, record["attempt"]] = record
        clocks[session] = record["secs"]
    tokens = sum(r["prompt_tokens"] + r["completion_tokens"] for r in attempts.values())
    usd = sum(r["usd"] or 0.0 for r in attempts.values())
    return Spent(len(attempts), tokens, usd, sum(clocks.values()) / _SECS_PER_HOUR)


def spent_below(directories: Iterable[Path], but: Path | None = None) -> Spent:
    """The total of all accounts below the directories but one, with those that were set aside.

    Raises:
        JournalError, RecordingError: an account is corrupt.
    """
    paths = [path for directory in directories for path in sorted(directory.rglob(f"{SPENDING}*")) if path != but]
    return sum((spent(read_account(path)) for path in paths), Spent())


@dataclass
class Bill:
    """The actual cost of an attempt; `tokens` is set once it is known."""

    tokens: Tokens


class Budget:
    """The account of one run, with limits for the run and for all runs of its experiment combined."""

    def __init__(
        self,
        path: Path,
        limits: BudgetConfig,
        prices: Mapping[str, PricesConfig | None],
        sweep: Path,
        also: Sequence[Path] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the account; the file is opened by the first attempt.

        Args:
            path: the run's ``spend.jsonl``.
            limits: limits of the run and of its experiment.
            prices: model -> price, None if unknown.
            sweep: directory that contains the accounts of all runs of the experiment, at any depth.
            also: further directories with accounts that count against the limits of the sweep.
            clock: monotonic time in seconds.

        Raises:
            ConfigError: there is a limit in USD but a model has no price.
        """
        unpriced = [name for name, price in prices.items() if price is None]
        for scope, limit in (("run", limits.run.usd), ("sweep", limits.sweep.usd)):
            if limit is not None and unpriced:
                raise ConfigError(
                    f"budget.{scope}.usd={limit} needs the prices of {', '.join(unpriced)}; give models.NAME.prices, "
                    "or limit calls or tokens"
                )
        self._path = path
        self._limits = limits
        self._prices = prices
        self._sweep = sweep
        self._also = also
        self._clock = clock
        self._file: JsonLines | None = None
        self._earlier = Spent()
        self._records: list[dict[str, Any]] = []
        self._begin = 0.0
        self._attempts = 0
        self._under_way = 0
        self._settled = Condition()  # guards all of these: calls may be made in several threads

    @property
    def spent(self) -> Spent:
        """The cost of the run's live calls in all sessions; zero before the first call of this session."""
        with self._settled:
            return self._spent()

    def _spent(self) -> Spent:
        if self._file is None:
            return Spent()
        now = spent(self._records)
        hours = (self._clock() - self._begin) / _SECS_PER_HOUR
        return self._earlier + Spent(now.calls, now.tokens, now.usd, hours)

    @contextmanager
    def attempt(self, model: str, cost_bound: Tokens) -> Iterator[Bill]:
        """Account for one attempt: written to disk before the body runs, settled afterwards.

        An attempt that ends in an error costs nothing unless the server may have answered; then it costs `cost_bound`.
        Attempts in other threads count at their bounds, so one that could exceed a limit waits until they are settled.

        Args:
            model: the model that is called.
            cost_bound: the most tokens that the attempt can take.

        Yields:
            The bill, on which the body enters the actual tokens.

        Raises:
            BudgetError: the attempt could exceed a limit; nothing was written and the body did not run.
            JournalError: the account is in use by another process, or the disk refused it.
        """
        bill = Bill(cost_bound)
        with self._settled:
            number = self._enter(model, cost_bound)
        try:
            yield bill
        except TransientError as error:
            self._settle(number, model, cost_bound if error.maybe_charged else NO_TOKENS)
            raise
        except BaseException as error:
            # An LLMError means nothing was charged; after anything else (Ctrl-C) the server's state is unknown.
            self._settle(number, model, NO_TOKENS if isinstance(error, LLMError) else bill.tokens)
            raise
        self._settle(number, model, bill.tokens)

    def _enter(self, model: str, cost_bound: Tokens) -> int:
        """Enter an attempt at its bound, once the limits allow it; return its number."""
        if self._file is None:
            self._open()
        while True:
            try:
                with self._together() if self._limits.sweep != NO_LIMITS else nullcontext():
                    self._allow(model, cost_bound)
                    self._write(self._attempts, model, cost_bound)
                break
            except BudgetError:
                if not self._under_way:
                    raise
                self._settled.wait()
        self._attempts += 1
        self._under_way += 1
        return self._attempts - 1

    def _settle(self, number: int, model: str, tokens: Tokens) -> None:
        with self._settled:
            self._under_way -= 1
            self._settled.notify_all()
            self._write(number, model, tokens)

    def _open(self) -> None:
        self._file = JsonLines(self._path)
        self._earlier = spent(read_account(self._path))
        self._begin = self._clock()
        self._append({"prices": {name: price and written(price) for name, price in self._prices.items()}})

    def _write(self, number: int, model: str, tokens: Tokens) -> None:
        price = self._prices[model]
        record = {"attempt": number, "model": model, "prompt_tokens": tokens.prompt}
        record |= {"completion_tokens": tokens.completion, "usd": None if price is None else tokens.usd(price)}
        self._append({**record, "secs": round(self._clock() - self._begin, 3)})

    def _append(self, record: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.append(record)
        self._records.append(record)

    def _allow(self, model: str, cost_bound: Tokens) -> None:
        price = self._prices[model]
        own = self._spent()
        usd = 0.0 if price is None else cost_bound.usd(price)
        next_call = Spent(1, cost_bound.prompt + cost_bound.completion, usd, 0.0)
        _refuse_beyond(self._limits.run, "run", own, next_call)
        if self._limits.sweep != NO_LIMITS:
            others = spent_below([self._sweep, *self._also], but=self._path)
            _refuse_beyond(self._limits.sweep, "sweep", others + own, next_call)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Let only one process of the sweep at a time check and take from what is left."""
        directory = os.open(self._sweep, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def close(self) -> None:
        with self._settled:
            if self._file is not None:
                self._file.close()


NO_LIMITS = LimitsConfig(None, None, None, None)


def beyond(limits: LimitsConfig, so_far: Spent, expected: Spent) -> str | None:
    """The first limit that the expected spending would exceed, in words; None if it is within all of them."""
    for name, limit in vars(limits).items():
        used, more = getattr(so_far, name), getattr(expected, name)
        if limit is not None and more and used + more > limit:
            return f"{name}={limit:g} leaves {max(0, limit - used):g}, {more:g} are expected"
    return None


def _refuse_beyond(limits: LimitsConfig, scope: str, so_far: Spent, next_call: Spent) -> None:
    for name, limit in vars(limits).items():
        used, more = getattr(so_far, name), getattr(next_call, name)
        if limit is not None and (used + more > limit or used >= limit):
            needs = f", the next call may take {more:g}" if more else ""
            raise BudgetError(
                f"budget.{scope}.{name}={limit:g} is reached ({used:g} used{needs}); "
                "the same command with a higher limit goes on"
            )
