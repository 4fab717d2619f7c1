"""Questions that are asked at the same time, each by a thread of its own.

A thread only makes sure that its answer is recorded; the search applies answers in its own thread and order. Answers
that take no time, such as recorded ones, need no thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, wait
from threading import Thread
from types import TracebackType
from typing import Protocol, Self

from colt_pipeline.records import Answer, ModelSpec, PromptContext, Role

Turn = tuple[int, Role]
"""The step that a question belongs to, and what it is for."""
_TURN_SECS = 0.1


class PosedLike(Protocol):
    """A question in the form in which it is asked."""

    @property
    def key(self) -> str: ...
    @property
    def takes_time(self) -> bool:
        """Whether a server has to be asked."""
        ...

    def fetch(self) -> None:
        """Ask, and record the answer."""
        ...

    def answer(self) -> Answer:
        """The answer; without `fetch` it is asked for now."""
        ...


class PosingLike(Protocol):
    """A proposer that can be asked several questions at once."""

    def pose(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> PosedLike: ...


class InFlight:
    """The questions that have been sent and whose answers the search has not taken yet."""

    def __init__(self, proposer: PosingLike, most: int, disturbs: bool = False) -> None:
        """Prepare to ask.

        Args:
            proposer: whom to ask.
            most: how many answers the search awaits at the same time.
            disturbs: whether a model that answers meanwhile disturbs measurements.
        """
        self.most = most
        self._disturbs = disturbs
        self._proposer = proposer
        self._posed: dict[Turn, PosedLike] = {}
        self._calls: dict[Turn, Future[None]] = {}

    def send(self, turn: Turn, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> None:
        """Ask without waiting for the answer."""
        posed = self._posed[turn] = self._proposer.pose(model, context, occurrences)
        if posed.takes_time:
            call: Future[None] = Future()
            # A daemon, because an interrupted run ends without waiting for it.
            Thread(target=_make, args=(posed, call), daemon=True).start()
            self._calls[turn] = call

    def sent(self, turn: Turn) -> bool:
        """Whether this question has been sent."""
        return turn in self._posed

    def key(self, turn: Turn) -> str:
        """The key of a question that has been sent."""
        return self._posed[turn].key

    def wait(self, turn: Turn) -> None:
        """Wait for a call.

        Raises:
            ColtError: as for a call that is made alone.
        """
        if turn in self._calls:
            _until_done(self._calls[turn])
            self._calls[turn].result()

    def take(self, turn: Turn) -> Answer:
        """The answer, after the wait.

        Raises:
            ColtError: as for a question that is asked alone.
        """
        answer = self._posed[turn].answer()
        del self._posed[turn]
        self._calls.pop(turn, None)
        return answer

    def let_measure(self) -> None:
        """Wait for calls that would disturb measurements."""
        if self._disturbs:
            self.wait_for_all()

    def wait_for_all(self) -> None:
        """Wait until every call has ended and is accounted for, whatever came of it."""
        for call in self._calls.values():
            _until_done(call)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let calls end, whose answers are paid for; after an interrupt, do not make the user wait."""
        if kind is None or issubclass(kind, Exception):
            self.wait_for_all()


def _until_done(call: Future[None]) -> None:
    """Wait in short turns: a signal may reach another thread, and only the main one handles it, once it runs again."""
    while not call.done():
        wait([call], _TURN_SECS)


def _make(posed: PosedLike, call: Future[None]) -> None:
    try:
        posed.fetch()
    except BaseException as error:
        call.set_exception(error)
    else:
        call.set_result(None)
