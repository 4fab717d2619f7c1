"""The table of runs on a terminal, and the lines of finished runs elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from colt_pipeline.app import printable, shown_speedup
from colt_pipeline.progress.board import Board
from colt_pipeline.progress.standing import Standing
from colt_pipeline.records import EMBEDDED, NO_MODEL, RANDOM

_IN_PLACE = {EMBEDDED: "stand-ins", RANDOM: "random draws"}
_BAR_WIDTH = 10
_WIDE = 100
"""Terminal width from which there is room for the calls of each model."""
_BESIDE_ROWS = 5
"""Lines of the terminal not used by rows: two above, two below, and the cursor's."""


class RunTable:
    """A board as a table; if the rows do not fit, those around the running ones are shown."""

    def __init__(self, board: Board, answers: str = "", stage: str = "") -> None:
        """Show `board`.

        Args:
            board: the runs.
            answers: what answers, if not the named models.
            stage: the pipeline stage that this command is, if any.
        """
        self._board = board
        self._answers = answers
        self._stage = stage

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        common, names = shortened([run.name for run in self._board.runs])
        wide = options.max_width >= _WIDE
        table = Table(box=None, pad_edge=False, expand=wide, header_style="dim")
        table.add_column("run", max_width=2 * options.max_width // 5, no_wrap=True, overflow="ellipsis")
        table.add_column(width=_BAR_WIDTH)
        table.add_column("samples", justify="right", no_wrap=True)
        table.add_column("best", justify="right", no_wrap=True)
        table.add_column("calls", justify="right", no_wrap=True)
        if wide:
            table.add_column("by model", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column("ETA", justify="right", no_wrap=True)
        rows = [
            (standing, f"  {standing.name}" if part else name, index)
            for index, (name, standings) in enumerate(zip(names, self._board.standings, strict=True))
            for part, standing in enumerate(standings)
        ]
        room = max(1, console.size.height - _BESIDE_ROWS)
        at_work = next((row for row, (standing, _, _) in enumerate(rows) if not standing.finished), 0)
        begin = max(0, min(at_work - room // 4, len(rows) - room))
        for standing, name, index in rows[begin : begin + room]:
            by_model = [_text(_by_model(standing))] if wide else []
            table.add_row(_text(name), *self._cells(standing), *by_model, self._eta(standing, index))
        below = [self._summary(hidden=max(0, len(rows) - room)), *self._legend()]
        yield Group(*map(_dim, common), table, *map(_dim, below))

    def _cells(self, standing: Standing) -> tuple[RenderableType, ...]:
        total = standing.budget
        bar = "" if total is None else ProgressBar(1.0, standing.share_done, _BAR_WIDTH)
        samples = str(standing.samples) if total is None else f"{standing.samples}/{total}"
        best = shown_speedup(standing.speedup, standing.measurement)
        return bar, samples, best, _count(standing.calls.total(), standing.alterations.total())

    def _eta(self, run: Standing, index: int) -> str:
        if run.budget is None:
            return ""
        if run.finished:
            return "done"
        return duration(self._board.secs_left_of(index)) if run.begun else "-"

    def _summary(self, hidden: int) -> str:
        board = self._board
        parts = [
            f"{board.finished} of {len(board.runs)} runs done",
            f"elapsed {duration(board.elapsed_secs())}",
            f"ETA {duration(board.secs_left())}",
            *([f"{hidden} rows not shown"] if hidden else []),
            *([f"stage {self._stage}"] if self._stage else []),
        ]
        return "  ".join(parts)

    def _legend(self) -> list[str]:
        runs = self._board.runs
        if not any(run.calls or run.alterations or run.awaited for run in runs):
            return []
        parts = ["calls: regular + course alterations", self._answers]
        parts.append(f"{awaited} awaited" if (awaited := sum(run.awaited for run in runs)) else "")
        return [", ".join(filter(None, parts))]


def _by_model(standing: Standing) -> str:
    """Calls of each model, the most called first, because the last ones may be cut off."""
    calls, alterations = standing.calls, standing.alterations
    return " ".join(
        f"{name}:{_count(calls[name], alterations[name])}" for name, _ in (calls + alterations).most_common()
    )


def _count(calls: int, alterations: int) -> str:
    return f"{calls}+{alterations}" if alterations else str(calls or "")


def _text(words: str) -> Text:
    """`words` verbatim, without markup or control characters."""
    return Text(printable(words))


def _dim(line: str) -> Text:
    return Text(printable(line), style="dim", no_wrap=True, overflow="ellipsis")


def shortened(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split off what names have in common.

    Returns:
        The common part with a ``*`` for the rest, if there is any; and the rest of each name.
    """
    parts = [re.split(r"(?<=[-/])|(?=-)", name) for name in names]
    shortest = min(map(len, parts))
    if len(parts) == 1:
        return [], list(names)

    def same(index: int) -> bool:
        return len({part[index] for part in parts}) == 1

    begin = next((n for n in range(shortest - 1) if not same(n)), shortest - 1)
    end = next((n for n in range(shortest - 1 - begin) if not same(-1 - n)), shortest - 1 - begin)
    first = parts[0]
    common = [*first[:begin], "*", *first[len(first) - end :]]
    return ["".join(common)] if begin or end else [], ["".join(part[begin : len(part) - end]) for part in parts]


def duration(secs: float | None) -> str:
    """`secs` as ``m:ss`` or ``h:mm:ss``; ``?`` if unknown."""
    if secs is None:
        return "?"
    minutes, seconds = divmod(round(secs), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def end_lines(board: Board, ended: Sequence[Standing]) -> list[str]:
    """The log lines for these runs, the latest to have ended."""
    secs = board.secs_left()
    left = "unknown" if secs is None else f"{secs:.0f} s"
    first, total = board.finished - len(ended) + 1, len(board.runs)
    return [f"run {number}/{total}  {run.name}  ETA {left}" for number, run in enumerate(ended, start=first)]


def answered_by(providers: Collection[str]) -> str:
    """What answers in place of the named models; "" if all of them answer themselves."""
    others = [words for provider, words in _IN_PLACE.items() if provider in providers]
    if not others:
        return ""
    share = "" if set(providers) <= {*_IN_PLACE, NO_MODEL.provider} else "partly "
    return f"{share}answered by {' or '.join(others)} in place of the named models"


def dvc_stage() -> str:
    """The DVC stage that this command runs as, and its position in the pipeline; "" if it is not a stage."""
    file, _, name = os.environ.get("DVC_STAGE", "").rpartition(":")
    path = Path(os.environ.get("DVC_ROOT", "."), file or "dvc.yaml")
    if not name or not path.is_file():
        return name
    stages = yaml.safe_load(path.read_text())["stages"]
    names = [
        f"{stage}@{item}" if "foreach" in definition else stage
        for stage, definition in stages.items()
        for item in definition.get("foreach", [""])
    ]
    return f"{name} ({names.index(name) + 1} of {len(names)} in {file or path.name})" if name in names else name
