"""Manage recordings: ``python -m colt_pipeline.tools.recordings check results/recordings``.

``check`` reports what is wrong with answers, ledgers, batches and accounts, ``stats`` what the answers cost, ``diff``
where two recordings diverge; ``prune`` makes recordings smaller. A path is a recording (a directory or its llm.jsonl)
or a directory that contains recordings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from colt_pipeline.analysis.labels import model_label
from colt_pipeline.app import aligned, with_message
from colt_pipeline.errors import ColtError, RecordingError
from colt_pipeline.llm.audit import (
    CassetteFile,
    Entry,
    differences,
    find,
    findings,
    read,
    read_intact,
    write,
)
from colt_pipeline.llm.client import TRANSPORT
from colt_pipeline.measurement.ledger import Ledger
from colt_pipeline.records import EMBEDDED
from colt_pipeline.runs.batches import read_batch
from colt_pipeline.runs.clock import read_tick
from colt_pipeline.runs.costs import read_account
from colt_pipeline.runs.drafted import read_picks
from colt_pipeline.runs.jsonl import PACKED, locked
from colt_pipeline.runs.layout import (
    ANSWERS,
    CANDIDATES,
    CLOCK,
    DRAFTS,
    MEASUREMENTS,
    SHARED,
    SPENDING,
    START,
    WHOLE_MODEL_MEASUREMENTS,
)
from colt_pipeline.runs.recorded import Recorded
from colt_pipeline.runs.started_from import read_start
from colt_pipeline.runs.usage import Usage, journals, read_usage


def check(arguments: argparse.Namespace) -> int:
    """Check recordings: one line per finding; exit status 1 if there are any."""
    found: list[str] = []
    runs: list[Usage] = []
    # Journals first, because a run in progress records an answer before it journals it.
    for journal in journals(arguments.runs) if arguments.runs else []:
        try:
            runs += [usage] if (usage := read_usage(journal)) else []
        except ColtError as error:
            found.append(str(error))
    others = dict.fromkeys(other for path in arguments.paths for other in _others(path))
    for path in others:
        try:
            _reader(path)(path)
        except ColtError as error:
            found.append(str(error))
    files = _files(arguments.paths, required=not others)
    answers = owned = 0
    for path in files:
        try:
            cassette = read(path)
        except ColtError as error:
            found.append(str(error))
            continue
        answers += len(cassette.answers)
        found += [f"{path}, line {line}: {what}" for line, what in findings(cassette)]
        owners = [run for run in runs if run.owns(path)]
        owned += bool(owners)
        found += _usage(cassette, owners)
    for finding in found:
        print(finding)
    of_runs = f", {owned} with runs" if arguments.runs else ""
    of_others = f", {len(others)} other files" if others else ""
    verdict = f"{len(found)} findings" if found else "nothing wrong"
    print(f"{len(files)} recordings{of_runs}, {answers} answers{of_others}: {verdict}", file=sys.stderr)
    return 1 if found else 0


def _ledger(path: Path) -> None:
    Ledger(path, {}, "replay").close()


_READERS: dict[str, Callable[[Path], object]] = {
    MEASUREMENTS: _ledger,
    WHOLE_MODEL_MEASUREMENTS: _ledger,
    CANDIDATES: lambda path: Recorded(path, "replay", read_batch).close(),
    DRAFTS: lambda path: Recorded(path, "replay", read_picks).close(),
    SPENDING: read_account,
    CLOCK: lambda path: Recorded(path, "replay", read_tick).close(),
    START: read_start,
}
"""Name of a recording's file, besides its answers -> what reads it as a run does."""


def _reader(path: Path) -> Callable[[Path], object]:
    return _ledger if path.parent.name == SHARED else _READERS[path.name]


def _others(path: Path) -> list[Path]:
    """The files at or below `path` that `_reader` knows."""
    below = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    return [file for file in below if file.name in _READERS or file.parent.name == SHARED]


def _usage(cassette: CassetteFile, owners: Sequence[Usage]) -> list[str]:
    """The recorded answers that a recording's runs did not use, and the ones they lack."""
    recorded = {entry.identity for entry in cassette.answers}
    found = [
        f"{cassette.path}, line {entry.line}: {entry.name} is not used by {owners[0].journal}"
        for entry in _unused(cassette, owners)
        if entry.answered
    ]
    for run in owners:
        absent = {identity: line for identity, line in run.calls.items() if identity not in recorded}
        found += [
            f"{run.journal}, line {line}: question {key[:12]}, occurrence {occurrence} is not in {cassette.path}"
            for (key, occurrence), line in absent.items()
        ]
    return found


def _unused(cassette: CassetteFile, owners: Sequence[Usage]) -> list[Entry]:
    """The answers that no run of the recording used; none while an unfinished run may still use them."""
    if not owners or not all(run.finished for run in owners):
        return []
    used = {identity for run in owners for identity in run.calls}
    return [entry for entry in cassette.entries if entry.identity not in used]


def stats(arguments: argparse.Namespace) -> int:
    """Print a table: one row per model and backend, and the total."""
    files = _files(arguments.paths)
    found: dict[tuple[str, str], list[Entry]] = {}
    for path in files:
        for entry in read_intact(path).answers:
            found.setdefault((entry.fields["model"], entry.fields["backend"]), []).append(entry)
    head = ("model", "backend", "calls", "failed", "tokens in", "tokens out", "mean latency", "bytes")
    cells: list[tuple[str, ...]] = [head]
    for (model, backend), entries in sorted(found.items()):
        cells.append((model_label(model, backend), backend, *_numbers(entries)))
    cells.append(("total", "", *_numbers([entry for entries in found.values() for entry in entries])))
    for line in aligned(cells):
        print(line)
    print(f"recordings: {len(files)}, {sum(path.stat().st_size for path in files)} bytes on disk")
    if any(backend == EMBEDDED for _, backend in found):
        print("stand-ins answer for the models they name; ~: includes their tokens, which are estimates")
    return 0


def _numbers(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Calls, failed calls, tokens, mean latency of live answers, bytes."""
    estimated = "~" if any(entry.fields["backend"] == EMBEDDED for entry in entries) else ""
    tokens = (sum(entry.fields[f"{side}_tokens"] for entry in entries) for side in ("prompt", "completion"))
    failed = sum(entry.fields["finish_reason"] == TRANSPORT for entry in entries)
    timed = [
        entry.fields["latency_secs"]
        for entry in entries
        if entry.fields["backend"] != EMBEDDED and entry.fields["finish_reason"] != TRANSPORT
    ]
    mean = f"{sum(timed) / len(timed):.2f} s" if timed else "-"
    size = sum(entry.size for entry in entries)
    return (str(len(entries)), str(failed), *(f"{estimated}{count}" for count in tokens), mean, str(size))


def prune(arguments: argparse.Namespace) -> int:
    """Rewrite recordings to make them smaller; nothing is written if any of them is invalid."""
    runs = [usage for journal in journals(arguments.runs) if (usage := read_usage(journal))] if arguments.runs else None
    targets = _targets(arguments)
    for source in targets.values():
        read_intact(source)
        if runs is not None and not any(run.owns(source) for run in runs):
            raise RecordingError(f"no run below {arguments.runs} belongs to {source}; give the directory of its run")
    for target, source in targets.items():
        with locked(source):
            before = source.stat().st_size
            cassette = read_intact(source)
            owners = [run for run in runs or () if run.owns(source)]
            if unfinished := [run for run in owners if not run.finished]:
                print(f"note: the run of {unfinished[0].journal} is unfinished; all answers are kept", file=sys.stderr)
            dropped = {entry.line for entry in _unused(cassette, owners)}
            kept = [entry.fields for entry in cassette.entries if entry.line not in dropped]
            without = {"lines": ""} if arguments.questions else {}
            after = write(target, (fields | without for fields in kept))
            if arguments.in_place and target != source:
                source.unlink()
        counts = f"{len(kept)} of {len(cassette.entries)} entries, {before} -> {after} bytes"
        print(f"{target}: {counts}")
    return 0


def _targets(arguments: argparse.Namespace) -> dict[Path, Path]:
    """Target file -> source file.

    Raises:
        RecordingError: two recordings have the same target, or a target already exists.
    """
    targets: dict[Path, Path] = {}
    for path in arguments.paths:
        for source in find(path):
            below = source.relative_to(path) if path.is_dir() else Path(source.name)
            target = source if arguments.in_place else arguments.out / below
            if arguments.gzip and target.suffix != PACKED:
                target = target.with_name(target.name + PACKED)
            if targets.setdefault(target, source) != source:
                raise RecordingError(f"{targets[target]} and {source} would both become {target}; prune one at a time")
            if target.exists() and target != source:
                raise RecordingError(f"{target} already exists; move it, or choose another directory")
    return targets


def diff(arguments: argparse.Namespace) -> int:
    """Compare two recordings: one line per difference; exit status 1 if there are any."""
    a, b = (read_intact(_one(path)) for path in (arguments.a, arguments.b))
    found = differences(a, b)
    for line in found:
        print(line)
    if not found:
        print(f"all {len(a.answers)} answers are equal", file=sys.stderr)
    return 1 if found else 0


def _one(path: Path) -> Path:
    found = find(path)
    if len(found) > 1:
        raise RecordingError(f"there are {len(found)} recordings below {path}; give one, such as {found[0].parent}")
    return found[0]


def _files(paths: Sequence[Path], required: bool = True) -> list[Path]:
    """All recorded answers at or below the paths, each file once."""
    return list(dict.fromkeys(found for path in paths for found in find(path, required)))


_COMMANDS = {"check": check, "stats": stats, "prune": prune, "diff": diff}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    added = {name: commands.add_parser(name, help=(run.__doc__ or "").strip()) for name, run in _COMMANDS.items()}
    for name in ("check", "stats", "prune"):
        added[name].add_argument("paths", nargs="+", type=Path, metavar="PATH", help="recordings, or directories above")
    added["check"].add_argument("--runs", type=Path, metavar="DIR", help="also compare with the journals below DIR")
    smaller = added["prune"]
    smaller.add_argument(
        "--runs", type=Path, metavar="DIR", help="drop answers that the finished runs below DIR did not use"
    )
    smaller.add_argument("--questions", action="store_true", help="drop the digests of the questions' lines")
    packed = f"compress: {ANSWERS} becomes {ANSWERS}{PACKED}, for replays only"
    smaller.add_argument("--gzip", action="store_true", help=packed)
    where = smaller.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="DIR", help="write below DIR, in the same folders as below PATH")
    where.add_argument("--in-place", action="store_true", help="replace the recordings")
    added["diff"].add_argument("a", type=Path, metavar="A")
    added["diff"].add_argument("b", type=Path, metavar="B")
    return parser


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit status 1 with a message if it fails, 2 for an invalid command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "prune" and not (arguments.runs or arguments.questions or arguments.gzip):
        parser.error("prune needs something to do: --runs DIR, --questions or --gzip")
    return _COMMANDS[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(main())
