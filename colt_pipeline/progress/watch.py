"""Shows how far runs are while they are at work."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from colt_pipeline.config.schema import Config
from colt_pipeline.progress.board import Board
from colt_pipeline.progress.standing import Followed
from colt_pipeline.progress.table import RunTable, answered_by, dvc_stage, end_lines
from colt_pipeline.progress.terminal import captured, on_terminal

_POLL_SECS = 1.0


@contextmanager
def watched(configs: Sequence[Config], follow: Callable[[Config], Followed]) -> Iterator[None]:
    """Inside, the runs of these configurations are at work, in whichever processes.

    A terminal shows a table of them below whatever else is printed; elsewhere each has a line when it ends.
    """
    if not configs:  # a command line that is wrong, or that runs nothing
        yield
        return
    board = Board([follow(config) for config in configs])
    if on_terminal():
        providers = {model.provider for config in configs for model in config.model_specs}
        with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as terminal:
            with _drawn(board, RunTable(board, answered_by(providers), dvc_stage()), terminal):
                yield
    else:
        with _each_second(lambda: _log(board)):
            yield


@contextmanager
def _drawn(board: Board, table: RunTable, terminal: TextIO) -> Iterator[None]:
    """Inside, the terminal shows the table; it stays there if an exception ends it, for no other table follows then."""
    console = Console(file=terminal, force_terminal=True)
    live = Live(table, console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def update() -> None:
        board.update()
        live.refresh()

    def show(line: str) -> None:
        console.print(Text.from_ansi(line), soft_wrap=True)

    with live, captured(show), _each_second(update):
        yield
        live.transient = True


def _log(board: Board) -> None:
    for line in end_lines(board, board.update()):
        if len(board.runs) > 1:
            print(line, file=sys.stderr, flush=True)


@contextmanager
def _each_second(step: Callable[[], None]) -> Iterator[None]:
    """Inside, a thread takes the step again and again, and once more at the end."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(_POLL_SECS):
            step()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        step()
