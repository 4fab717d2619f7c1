"""The GPU check: ``python -m stages.benchmarks.gpu --out results/benchmark/gpu``, minutes on one CUDA GPU.

Everything it needs is checked first. Then its parts run one after another, and each writes its file row by row:

device       device.json       the GPU, its driver, compilers and packages
faults       faults.csv        kernels that misbehave, what is recorded, and whether the GPU is usable afterwards
torch        torch.csv         PyTorch on the same inputs, float32, with TF32 off and on; only where it is installed
searches     searches.csv      the experiments; recordings and runs below --results replay like all others
latencies    latencies.csv     unoptimized, tuned and PyTorch's latencies per workload
agreement    agreement.csv     how well device=estimate ranks the programs that were measured
compiled     compiled.csv      kernels compile for other architectures; needs no GPU

The same command resumes what was cut. --dry-run computes latencies (device=estimate) where there is no GPU.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from colt_pipeline.app import INTERRUPTED, interruptible, with_message
from colt_pipeline.errors import ConfigError, UnfinishedError
from stages.benchmarks import Row, command_line, names, positive, table, write_csv
from stages.benchmarks.gpu import agreement, compiled, facts, faults, latencies, searches, with_torch
from stages.benchmarks.gpu.plan import Plan

_SECS_PER_MINUTE = 60.0
_SHARE = 0.8
"""Of the time limit, after which no batch of a search begins; the rest is for the parts that follow."""

_DEVICE = "device.json"
_TIMES = "times.csv"
_OFFLINE = {"latencies", "agreement", "compiled"}
"""Parts that need no GPU, but what the others wrote."""
_WITHOUT_RUNS = {
    "latencies": "; no run of gpu_searches has ended below --results",
    "agreement": "; no run of these experiments has ended below --results, or conf/target lacks this GPU's data sheet",
}

PARTS: dict[str, Callable[[Plan], Iterable[Row]]] = {
    "faults": faults.rows,
    "torch": with_torch.rows,
    "searches": searches.rows,
    "latencies": latencies.rows,
    "agreement": agreement.rows,
    "compiled": compiled.rows,
}
"""Part -> the rows of its CSV file, as they become known; none if the part does not apply here."""

_WRONG: dict[str, Callable[[Row], bool]] = {
    "faults": lambda row: (row["recorded"], row["next_kernel"]) != (row["expected"], faults.USABLE),
    "searches": lambda row: str(row["ended"]).startswith(searches.FAILED),
    "compiled": lambda row: row["compiled"] != row["programs"],
}
"""Part -> whether a row shows a failure of this project or machine."""


def check(plan: Plan, parts: Sequence[str]) -> None:
    """Run the parts in order, writing each one's file, and the time it took, as it ends.

    Raises:
        ColtError: something that the check needs is missing.
        UnfinishedError: rows show what should not be.
    """
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out={plan.out} cannot be created: {error.strerror}; choose another directory") from error
    if not os.access(plan.out, os.W_OK):
        raise ConfigError(f"--out={plan.out} is not writable; choose another directory")
    _keep_apart(plan)
    if not _OFFLINE.issuperset(parts):
        device = facts.facts(plan)
        (plan.out / _DEVICE).write_text(json.dumps(device, indent=1, sort_keys=True) + "\n")
        print(json.dumps(device, sort_keys=True), flush=True)
    times, wrong = _times(plan), list[str]()
    for part in parts:
        begin, rows = time.monotonic(), list[Row]()
        for row in PARTS[part](plan):
            rows.append(row)
            write_csv(rows, plan.out / f"{part}.csv")
        print(table(rows) if rows else f"{part}: nothing to write{_WITHOUT_RUNS.get(part, '')}", flush=True)
        secs = round(time.monotonic() - begin, 1)
        times[part] = {"part": part, "secs": secs, "latencies": plan.latencies}
        print(f"{part}: {secs} s", flush=True)
        write_csv([times[name] for name in PARTS if name in times], plan.out / _TIMES)
        wrong += [part for row in rows if part in _WRONG and _WRONG[part](row)]
    if wrong:
        shown = ", ".join(f"{count} of {part}.csv" for part, count in Counter(wrong).items())
        raise UnfinishedError(f"the check is complete, but rows show failures: {shown} in {plan.out}")


def _keep_apart(plan: Plan) -> None:
    """Keep estimates and measurements out of each other's output.

    Raises:
        ConfigError: the output is that of another kind of check.
    """
    path = plan.out / _DEVICE
    if path.exists() and (there := json.loads(path.read_text())["latencies"]) != plan.latencies:
        raise ConfigError(
            f"--out={plan.out} holds {there} latencies, not {plan.latencies} ones; choose another directory"
        )


def _times(plan: Plan) -> dict[str, Row]:
    """What earlier checks with the same output took, by part."""
    path = plan.out / _TIMES
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["part"]: dict(row) for row in csv.DictReader(file)}


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Run the check; exit status 0, 1 with a message if something is missing or failed, or 130 after Ctrl-C."""
    parser = command_line(__doc__)
    parser.add_argument("--results", type=Path, help="directory of recordings and runs; default: that of --out")
    parser.add_argument(
        "--minutes", type=positive, default=9, help="time limit; no batch of a search begins after four fifths of it"
    )
    parser.add_argument("--dry-run", action="store_true", help="compute latencies; no GPU is needed")
    parser.add_argument("--parts", type=names, default=tuple(PARTS), help=f"comma-separated: {','.join(PARTS)}")
    parser.add_argument("--workloads", type=names, default=Plan.workloads, help="comma-separated; default: the paper's")
    parser.add_argument("--experiments", type=names, default=Plan.experiments, help="comma-separated")
    parser.add_argument("--samples", type=positive, default=Plan.samples, help="per search; default: the experiment's")
    parser.add_argument("--space", default=Plan.space, help="design space of all searches: tvm or extended")
    given = parser.parse_args(argv)
    if unknown := [part for part in given.parts if part not in PARTS]:
        raise ConfigError(f"--parts={','.join(unknown)} is unknown; choose from {', '.join(PARTS)}")
    plan = Plan(
        out=given.out,
        results=given.results or given.out,
        dry=given.dry_run,
        deadline=time.monotonic() + _SHARE * _SECS_PER_MINUTE * given.minutes,
        workloads=given.workloads,
        experiments=given.experiments,
        samples=given.samples,
        space=given.space,
    )
    try:
        with interruptible():
            check(plan, given.parts)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
