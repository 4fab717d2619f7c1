"""Several calls at the same time: a real HTTP server, one account, one recording."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from colt_pipeline.config.schema import BudgetConfig, LimitsConfig
from colt_pipeline.errors import BudgetError, ReplayMissError
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.client import Question
from colt_pipeline.llm.entry import REFUSED
from colt_pipeline.records import EMBEDDED
from colt_pipeline.runs.budget import Budget, spent
from colt_pipeline.runs.costs import Tokens
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.runs.stopwatch import Stopwatch
from tests.llm.live import MODEL, NONE, PRICES, SAMPLING, Setting
from tests.llm.server import ANSWER, misbehaving
from tests.toy import SMALL, ToyClient

EIGHT = 8
T = TypeVar("T")


def together(work: Callable[[int], T], count: int = EIGHT) -> list[T | BudgetError]:
    """What `work` returns for 0, 1, ... in threads of their own, or the limit that it reached."""

    def attempt(number: int) -> T | BudgetError:
        try:
            return work(number)
        except BudgetError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(attempt, range(count)))


def numbered(number: int) -> Question:
    return Question(MODEL, [{"role": "user", "content": f"question {number} " + "u" * 100}], SAMPLING)


def test_each_call_has_the_time_and_the_bytes_of_an_exchange_to_itself(tmp_path: Path) -> None:
    with misbehaving(always="together") as server:
        server.meeting, server.text = threading.Barrier(EIGHT), ANSWER + " " * 4000
        setting = Setting(server, tmp_path, max_bytes=8000, timeout_secs=20)
        replies = together(lambda number: setting.caller.complete(numbered(number), 0))
    assert [reply.text for reply in replies if not isinstance(reply, BudgetError)] == [server.text] * EIGHT
    assert len(server.requests) == setting.spent.calls == EIGHT


def test_a_limit_of_calls_holds_and_what_arrived_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run" / "llm.jsonl"
    with misbehaving() as server:
        setting = Setting(server, tmp_path, run=LimitsConfig(5, None, None, None))
        with closing(Cassette(path, lambda provider: setting.caller, Stopwatch())) as cassette:
            ended = together(lambda number: cassette.fetch(numbered(number), 0))
            assert cassette.asked == 5
    assert len(server.requests) == 5
    assert sum(isinstance(end, BudgetError) for end in ended) == 3
    lines = read_lines(path)
    assert sum(REFUSED in line for line in lines) == 3 and sum("text" in line for line in lines) == 5
    with closing(Cassette(path, None, Stopwatch())) as replay:
        for number, end in enumerate(ended):
            if isinstance(end, BudgetError):
                with pytest.raises(BudgetError, match="budget.run.calls=5 is reached"):
                    replay.answer(numbered(number), 0)
            else:
                assert replay.answer(numbered(number), 0).text == ANSWER


def test_attempts_under_way_count_at_their_bounds_and_others_wait_for_them(tmp_path: Path) -> None:
    bound, used = Tokens(90, 10), Tokens(20, 5)
    limits = BudgetConfig(LimitsConfig(None, 310, None, None), NONE, 1)
    budget = Budget(tmp_path / "spend.jsonl", limits, {"m": PRICES}, tmp_path)
    most = []
    with closing(budget):

        def work(number: int) -> None:
            with budget.attempt("m", bound) as bill:
                most.append(budget.spent.tokens)
                bill.tokens = used

        ended = together(work)
    assert max(most) <= 310
    assert not any(isinstance(end, BudgetError) for end in ended), "8 x 25 tokens fit, although 8 x 100 do not"
    assert spent(read_lines(tmp_path / "spend.jsonl")).tokens == EIGHT * 25


def test_a_limit_that_nothing_under_way_can_relieve_is_reached_in_every_thread(tmp_path: Path) -> None:
    limits = BudgetConfig(LimitsConfig(None, None, None, None), LimitsConfig(3, None, None, None), 1)
    budget = Budget(tmp_path / "a" / "spend.jsonl", limits, {"m": PRICES}, tmp_path)
    with closing(budget):

        def work(number: int) -> None:
            with budget.attempt("m", Tokens(9, 1)) as bill:
                bill.tokens = Tokens(1, 1)

        ended = together(work)
    assert sum(isinstance(end, BudgetError) for end in ended) == EIGHT - 3
    assert spent(read_lines(tmp_path / "a" / "spend.jsonl")).calls == 3


def test_what_takes_time_is_a_question_to_a_server_that_is_not_recorded(tmp_path: Path) -> None:
    asked, embedded = numbered(0), Question(SMALL, [{"role": "user", "content": "u"}], SAMPLING)
    assert SMALL.provider == EMBEDDED != MODEL.provider
    with closing(Cassette(tmp_path / "llm.jsonl", lambda provider: ToyClient(), Stopwatch())) as cassette:
        assert cassette.takes_time(asked, 0) and not cassette.takes_time(embedded, 0)
        cassette.fetch(asked, 0)
        assert not cassette.takes_time(asked, 0) and cassette.takes_time(asked, 1)
    with closing(Cassette(tmp_path / "llm.jsonl", None, Stopwatch())) as replay:
        assert not replay.takes_time(asked, 1)
        with pytest.raises(ReplayMissError):
            replay.answer(asked, 1)


def test_every_line_of_a_recording_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "llm.jsonl"
    with closing(Cassette(path, lambda provider: ToyClient("x" * 5000), Stopwatch())) as cassette:

        def ask(number: int) -> None:
            for occurrence in range(5):
                cassette.fetch(numbered(number), occurrence)

        together(ask, 20)
    found = {(line["key"], line.get("occurrence", 0)) for line in read_lines(path)}
    assert len(found) == 100 == cassette.asked
