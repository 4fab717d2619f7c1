"""Write every workload of conf/workload: its module, TVMScript and facts.

``python -m stages.extract --conf conf/workload --out results/workloads``
"""

from __future__ import annotations

import sys
from pathlib import Path

from colt_pipeline import stack
from stages import command

stack.require()

from colt_pipeline.workloads.files import read_workloads, write_workload  # noqa: E402


def extract(conf: Path, out: Path) -> None:
    """Workloads described by the files in CONF -> three files each in OUT."""
    for workload in read_workloads(conf):
        write_workload(workload, out)


main = command(extract)


if __name__ == "__main__":
    sys.exit(main())
