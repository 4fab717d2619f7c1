"""Export what a run found: ``python -m colt_pipeline.export results/runs/<experiment>/<workload>/<run> --out DIR``.

The run may still be going on. DIR gets a library with programs that run it, the schedule as scripts and as a
MetaSchedule database, and a README. Nothing is measured.
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

_MCPU = "export.mcpu="


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
        "overrides", nargs="*", default=[], metavar="export.mcpu=NAME", help="compile for another CPU, by LLVM's name"
    )
    arguments = parser.parse_intermixed_args(argv)
    mcpu = _mcpu(arguments.overrides)
    stack.require()
    from colt_pipeline.exports.write import export_run  # imports TVM, which --help does not need

    try:
        with interruptible():
            export = export_run(arguments.run, arguments.out, arguments.database, mcpu)
    except KeyboardInterrupt:
        print("interrupted; nothing was exported", file=sys.stderr)
        return INTERRUPTED
    print(_described(export, arguments.out, arguments.database))
    return 0


def _described(export: Export, out: Path, database: Path | None) -> str:
    """What was exported, and how to run it."""
    kernel = f"{export.function}: {export.latency_secs * 1e3:.4g} ms, {export.how}"
    lines = [kernel, f"wrote {out}: README.md, scheduled.py, schedule.py, database/"]
    if export.unlinked is None:
        lines.append(
            "no library was written: export compiles for CPUs only. TVM can compile this kernel from database/"
        )
    elif export.unlinked:
        lines.append(f"kernel.o is not linked: {export.unlinked}; README.md says how to link it")
    else:
        lines[1] += ", kernel.so, run.py, main.cc"
        lines.append(f"run it with: python {out / 'run.py'}")
    if export.added is not None:
        lines.append(f"{'added to' if export.added else 'already in'} {database}")
    return "\n".join(lines)


def _mcpu(overrides: Sequence[str]) -> str | None:
    """The CPU that is asked for; None = as tuned."""
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"export takes one run, and {override} would be a second one; name one of them")
        if not override.startswith(_MCPU) or override == _MCPU:
            raise ConfigError(f"{override} is not a setting of export; there is only {_MCPU}NAME")
    if len(overrides) > 1:
        raise ConfigError(f"{overrides[0]} and {overrides[1]}: give one of them")
    return overrides[0].removeprefix(_MCPU) if overrides else None


if __name__ == "__main__":
    sys.exit(main())
