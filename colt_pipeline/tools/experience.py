"""What the pretrained cost model learns from runs: ``python -m colt_pipeline.tools.experience add results/runs``.

``add`` adds what runs measured on CPUs to a directory of your own, each program once; a search starts from it with
pretraining=DIR. ``list`` shows workloads, devices, design spaces and programs of a directory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from colt_pipeline import stack
from colt_pipeline.app import aligned, with_message
from colt_pipeline.config.checks import PACKAGE, PACKAGED
from colt_pipeline.config.places import base
from colt_pipeline.config.spaces import EXTENDED, TVM, space_name
from colt_pipeline.errors import ConfigError
from colt_pipeline.runs.layout import CONFIG
from colt_pipeline.runs.rundir import read_space, write_bytes
from colt_pipeline.runs.usage import journals

if TYPE_CHECKING:
    from colt_pipeline.prediction.experience_files import ExperienceFile

_OWN = Path("mine/experience")
"""Where `add` writes, relative to `places.base`."""


def add(arguments: argparse.Namespace) -> int:
    """Add what runs measured. A new directory begins as a copy of the experience that comes with this package."""
    from colt_pipeline.prediction.experience import add_experience  # imports TVM, which --help does not need

    directory: Path = arguments.to or base(Path.cwd()) / _OWN
    if directory.resolve() in [path.resolve() for path in (PACKAGE / PACKAGED.name).iterdir()]:
        raise ConfigError(
            f"recorded searches started from {directory}, and would no longer replay if it grew; add to a directory of "
            f"your own, such as --to {_OWN}"
        )
    if any(directory.glob("*.csv")):
        if arguments.start_from:
            raise ConfigError(
                f"{directory} has begun already; leave out --start-from {arguments.start_from}, or name a new "
                "directory with --to"
            )
        result = add_experience(arguments.runs, directory)
    else:
        given = [arguments.start_from] if arguments.start_from else _packaged(arguments.runs)
        sources = [] if arguments.alone else given
        with TemporaryDirectory() as scratch:  # so that nothing begins if a run cannot be added
            for file in [file for source in sources for file in _files(source)]:
                write_bytes(Path(scratch, file.path.name), file.path.read_bytes())
            result = add_experience(arguments.runs, Path(scratch))
            for path in sorted(Path(scratch).iterdir()):
                write_bytes(directory / path.name, path.read_bytes())
        if sources:
            print(f"{directory} begins as a copy of {' and '.join(map(str, sources))}", file=sys.stderr)
    cells = [("workload", "device", "design space", "added", "known")]
    for each in result.additions:
        origin = each.origin
        found = (origin.workload, origin.device, space_name(origin.additions), str(each.added), str(each.known))
        cells.append(found)
    print("\n".join(aligned(cells)))
    for path, reason in result.skipped.items():
        print(f"not taken: {path}: {reason}", file=sys.stderr)
    _say_devices({each.origin.device for each in result.additions})
    print(f"start a search from it with pretraining={directory}", file=sys.stderr)
    return 0


def _packaged(runs: Sequence[Path]) -> list[Path]:
    """The packaged experience in the spaces of these runs; a space of the user's own starts from the extended one's."""
    spaces = {read_space(journal.with_name(CONFIG)).name for path in runs for journal in journals(path)}
    return sorted({PACKAGE / PACKAGED.name / (TVM if space == TVM else EXTENDED) for space in spaces})


def show(arguments: argparse.Namespace) -> int:
    """Print a table: one row per file."""
    directory: Path = arguments.directory or base(Path.cwd()) / _OWN
    files = _files(directory)
    cells = [("workload", "device", "design space", "programs", "failed", "best")]
    for file in files:
        latencies = [secs for secs in file.experience.latencies if secs != float("inf")]
        best = f"{min(latencies) * 1e3:.3f} ms" if latencies else "-"
        total = len(file.experience.latencies)
        cells.append((*_words(file), str(total), str(total - len(latencies)), best))
    print("\n".join(aligned(cells)))
    programs = sum(len(file.experience.latencies) for file in files)
    workloads = len({file.workload_hash for file in files})
    print(f"{programs} programs of {workloads} workload{'s' * (workloads > 1)}")
    _say_devices({_words(file)[1] for file in files})
    return 0


def _words(file: ExperienceFile) -> tuple[str, str, str]:
    if file.origin is None:
        return file.workload_hash[:12], "-", "-"
    return file.origin.workload, file.origin.device, space_name(file.origin.additions)


def _say_devices(devices: set[str]) -> None:
    if len(devices) > 1:
        print(f"{len(devices)} devices: latencies are compared only within a workload on one device", file=sys.stderr)


def _files(directory: Path) -> list[ExperienceFile]:
    """The files of a directory that has some."""
    from colt_pipeline.prediction.experience_files import read_files

    found = read_files(directory)
    if not found:
        raise ConfigError(
            f"{directory} contains no experience (*.csv); add what runs measured with "
            f"colt experience add results/runs --to {directory}"
        )
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help=add.__doc__)
    adding.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="run directories, or directories above")
    adding.add_argument("--to", type=Path, metavar="DIR", help=f"directory that grows; default: {_OWN}")
    start = adding.add_mutually_exclusive_group()
    start.add_argument("--start-from", type=Path, metavar="DIR", help="what a new directory begins as a copy of")
    start.add_argument("--alone", action="store_true", help="a new directory begins empty")
    adding.set_defaults(run=add)
    listing = commands.add_parser("list", help=show.__doc__)
    listing.add_argument("directory", nargs="?", type=Path, metavar="DIR", help=f"default: {_OWN}")
    listing.set_defaults(run=show)
    return parser


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Add or list; exit status 1 with a message if that is impossible."""
    arguments = _parser().parse_args(argv)
    stack.require()
    status: int = arguments.run(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
