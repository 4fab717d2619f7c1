"""Shows the progress of runs while they are running."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from colt_pipeline.app import printable
from colt_pipeline.config.schema import Config
from colt_pipeline.progress.board import Board
from colt_pipeline.progress.standing import Followed
from colt_pipeline.progress.table import RunTable, answered_by, dvc_stage, end_lines
from colt_pipeline.progress.terminal import can_draw, captured

_POLL_SECS = 0.5


@contextmanager
def watched(configs: Sequence[Config], follow: Callable[[Config], Followed]) -> Iterator[None]:
    """Show the progress of these runs while the body runs them, in any processes.

    A terminal shows a table below everything else that is printed; elsewhere each run gets a line when it ends.
    """
    if not configs:  # nothing runs, or only Hydra's sweeper knows what
        yield
        return
    board = Board([follow(config) for config in configs])
    if can_draw():
        providers = {model.provider for config in configs for model in config.model_specs}
        with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as terminal:
            with _drawn(board, RunTable(board, answered_by(providers), dvc_stage()), terminal):
                yield
    else:
        with _repeated(lambda: _log(board)):
            yield


@contextmanager
def _drawn(board: Board, table: RunTable, terminal: TextIO) -> Iterator[None]:
    """Show the table on the terminal; after an exception it stays, to show how far the runs came."""
    console = Console(file=terminal, force_terminal=True)
    live = Live(table, console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
    with captured() as lines, live:  # the last lines must not come while the table can still be wiped

        def update() -> None:  # all drawing, in one thread
            board.update()
            for line in lines():
                console.print(above_table(line), soft_wrap=True)
            live.refresh()

        with _repeated(update):
            yield
        live.transient = True


def above_table(line: str) -> Text:
    """A line that some process wrote, with its colors, but nothing else that controls the terminal."""
    text = Text.from_ansi(line)
    return text if text.plain.isprintable() else Text(printable(text.plain, but="\t"))


def _log(board: Board) -> None:
    for line in end_lines(board, board.update()):
        if len(board.runs) > 1:
            print(line, file=sys.stderr, flush=True)


@contextmanager
def _repeated(step: Callable[[], None]) -> Iterator[None]:
    """Repeat the step in a thread while the body runs, and once more at the end.

    Raises:
        Exception: what the step raised, unless the body raises something itself.
    """
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(_POLL_SECS):
            step()
        step()

    with ThreadPoolExecutor(1) as pool:
        looping = pool.submit(loop)
        try:
            yield
        finally:
            stop.set()
    looping.result()
