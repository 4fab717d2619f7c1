"""Export what a run found: ``python -m colt_pipeline.export results/runs/<experiment>/<workload>/<run> --out DIR``.

The run may still be going on. DIR gets a library with programs that run it, the schedule as scripts and as a
MetaSchedule database, and a README. Of the run of a whole model, which must have ended, DIR gets the model, its packed
weights and the schedules of its kernels; the model's file is read again, and executed if it is Python. Nothing is
measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from colt_pipeline import stack
from colt_pipeline.app import INTERRUPTED, interruptible, with_message
from colt_pipeline.errors import ConfigError

if TYPE_CHECKING:  # it imports TVM
    from colt_pipeline.exports.write import Export

_SETTINGS = ("export.mcpu", "workload.source", "workload.weights")
_KNOWN = "export.mcpu=NAME, and for a whole model workload.source=FILE and workload.weights=FILE"


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Export and say where everything is; exit status 1 with a message if that is not possible."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="write here; an earlier export is replaced"
    )
    parser.add_argument("--database", type=Path, metavar="DIR", help="also add to the MetaSchedule database here")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help=(
            "export.mcpu=NAME: compile for another CPU, by LLVM's name; workload.source=FILE, workload.weights=FILE: "
            "the files of a whole model, if they are elsewhere now"
        ),
    )
    arguments = parser.parse_intermixed_args(argv)
    settings = _settings(arguments.overrides)
    stack.require()
    from colt_pipeline.exports.model_source import ModelFiles
    from colt_pipeline.exports.write import export_run  # imports TVM, which --help does not need

    given = ModelFiles(settings.get("workload.source"), settings.get("workload.weights"))

    try:
        with interruptible():
            mcpu = settings.get("export.mcpu")
            export = export_run(arguments.run, arguments.out, arguments.database, mcpu, given)
    except KeyboardInterrupt:
        print("interrupted; nothing was exported", file=sys.stderr)
        return INTERRUPTED
    print(_described(export, arguments.out, arguments.database))
    return 0


def _described(export: Export, out: Path, database: Path | None) -> str:
    """What was exported, and how to run it."""
    stem = "model" if export.is_model else "kernel"
    scripts = f"database/ ({export.schedules} kernels)" if export.is_model else "scheduled.py, schedule.py, database/"
    what = f"{export.function}: {export.latency_secs * 1e3:.4g} ms, {export.how}"
    lines = [what, f"wrote {out}: README.md, {scripts}{', weights/' if export.is_model else ''}"]
    if export.unlinked is None:
        lines.append(
            "no library was written: export compiles for CPUs only. TVM can compile this kernel from database/"
        )
    elif export.unlinked:
        objects = "kernel.o is" if stem == "kernel" else "the objects of model.so are"
        lines.append(f"{objects} not linked: {export.unlinked}; README.md says how to link it")
    else:
        lines[1] += f", {stem}.so, run.py, main.cc"
        lines.append(f"run it with: python {out / 'run.py'}")
    if export.added is not None:
        some = f"{export.added} of {export.schedules} schedules " if export.is_model and export.added else ""
        lines.append(f"{some}{'added to' if export.added else 'already in'} {database}")
    return "\n".join(lines)


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    """The settings that are given, by their names."""
    found: dict[str, str] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"export takes one run, and {override} would be a second one; name one of them")
        if key not in _SETTINGS or not value:
            raise ConfigError(f"{override} is not a setting of export; there is only {_KNOWN}")
        if key in found:
            raise ConfigError(f"{key}={found[key]} and {override}: give one of them")
        found[key] = value
    return found


if __name__ == "__main__":
    sys.exit(main())
