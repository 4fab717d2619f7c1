"""Write every workload of conf/workload: its module, its text and its facts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline import stack
from stages import run_stage

stack.require()

from colt_pipeline.workloads.files import read_workloads, write_workload  # noqa: E402


def extract(conf: Path, out: Path) -> None:
    """Workloads that the files in CONF describe -> three files each in OUT."""
    for workload in read_workloads(conf):
        write_workload(workload, out)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.extract --conf conf/workload --out results/workloads``."""
    return run_stage(extract, argv)


if __name__ == "__main__":
    sys.exit(main())
