"""Whether experience from one machine serves another: the pretrained cost model on programs that it has not seen.

For each workload on each machine, a model is trained on experience that leaves out this workload, this machine, or
both, and predicts the latencies of this machine's programs. Nothing is measured: the files of
results/pretraining_legacy (AMD, znver3) and results/benchmark/experience (Intel, emeraldrapids) hold features and
latencies of programs in TVM's space.
With features ``scaled``, what experience from another machine says about bytes and cache lines counts in units of the
L2 cache, and lengths of vectorized loops in vectors. Training draws at random, so each row is a mean over models that
saw the experience in different orders.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, log2
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from colt_pipeline.config.compose import composed
from colt_pipeline.errors import ConfigError
from colt_pipeline.prediction.experience_files import read_files
from colt_pipeline.prediction.pretrained import Experience, predicted
from colt_pipeline.workloads import PAPER
from colt_pipeline.workloads.catalogue import build
from stages.benchmarks import Row, command_line, positive, write_rows

DIRECTORIES = (Path("results/pretraining_legacy"), Path("results/benchmark/experience"))
_UNNAMED = "znver3"
"""Where files without origin were measured."""
_L2_KIB, _LANES = {"znver3": 512, "emeraldrapids": 2048}, {"znver3": 8, "emeraldrapids": 16}
_TOP = 8
"""Size of a batch."""
_STORE = 164
"""TVM's features of a store: their sums come first, then their maxima."""
_BYTES = [57 + 18 * buffer + feature for buffer in range(5) for feature in (3, 4, 5, 6, 11)]
"""Of each of five buffers: bytes, unique bytes, lines, unique lines, bytes until reuse; all in powers of two."""
_VECTORS = [17, 18]
"""Product and length of the vectorized loops."""


@dataclass(frozen=True)
class Known:
    """The measured programs of one workload on one machine."""

    machine: str
    workload: str
    experience: Experience


def rows(directories: Sequence[Path], orders: int) -> list[Row]:
    """One row per machine, workload and experience, then the means over the workloads.

    Raises:
        ConfigError: the directories hold programs of fewer than two machines.
    """
    known = _known(directories)
    machines = sorted({each.machine for each in known})
    if len(machines) < 2:
        raise ConfigError(f"the experience is of {' and '.join(machines) or 'no machine'}, but it takes two to compare")
    found = [row for test in known for row in _judged(test, known, orders)]
    labels = list(dict.fromkeys((row["machine"], row["experience"], row["features"]) for row in found))
    for machine, experience, features in labels:
        group = [r for r in found if (r["machine"], r["experience"], r["features"]) == (machine, experience, features)]
        means = {name: round(float(np.mean([float(str(r[name])) for r in group])), 3) for name in _MEASURES}
        found.append({"machine": machine, "workload": "mean", "experience": experience, "features": features, **means})
    return found


_MEASURES = ("kendall_tau", "best_of_8", "best_of_8_random")


def _known(directories: Sequence[Path]) -> list[Known]:
    names = {build(**vars(composed([f"workload={name}"]).workload)).hash: name for name in PAPER}
    return [
        Known(
            _UNNAMED if file.origin is None else file.origin.target["mcpu"],
            names.get(file.workload_hash, file.workload_hash[:12]),
            file.experience,
        )
        for directory in directories
        for file in read_files(directory)
    ]


def _judged(test: Known, known: Sequence[Known], orders: int) -> list[Row]:
    here = [k for k in known if k.machine == test.machine and k.workload != test.workload]
    there = [k for k in known if k.machine != test.machine]
    others = [k for k in there if k.workload != test.workload]
    plans = {
        ("this machine", "as they are"): here,
        ("other machine", "as they are"): others,
        ("other machine", "scaled"): [_scaled(k, test.machine) for k in others],
        ("other machine, this workload too", "as they are"): there,
        ("both machines", "as they are"): [*here, *others],
        ("both machines", "scaled"): [*here, *(_scaled(k, test.machine) for k in others)],
    }
    programs = test.experience
    found: list[Row] = []
    for (experience, features), training in plans.items():
        results = []
        for order in range(orders):
            drawn = np.random.default_rng(order).permutation(len(training))
            scores = predicted([training[i].experience for i in drawn], programs.features)
            first = np.argsort(-scores, kind="stable")[:_TOP]
            best = min(programs.latencies) / min(programs.latencies[i] for i in first)
            results.append((float(kendalltau(scores, programs.labels()).statistic), best))
        tau, best = np.mean(results, axis=0)
        found.append(
            {
                "machine": test.machine,
                "workload": test.workload,
                "experience": experience,
                "features": features,
                "kendall_tau": round(float(tau), 3),
                "best_of_8": round(float(best), 3),
                "best_of_8_random": round(_at_random(programs.latencies), 3),
            }
        )
    return found


def _at_random(latencies: Sequence[float]) -> float:
    """The expected speed of the best of _TOP programs drawn at random, relative to the best of all."""
    ordered = sorted(latencies)
    total = comb(len(ordered), _TOP)
    chances = [comb(len(ordered) - 1 - i, _TOP - 1) / total for i in range(len(ordered))]
    return sum(chance * ordered[0] / latency for chance, latency in zip(chances, ordered, strict=True))


def _scaled(known: Known, machine: str) -> Known:
    """The same programs with features as if caches and vectors were those of `machine`."""
    features = np.stack(known.experience.features).copy()
    shifts = [(_BYTES, _L2_KIB), (_VECTORS, _LANES)]
    for columns, sizes in shifts:
        shift = log2(sizes[machine] / sizes[known.machine])
        for column in columns:
            maximum = features[:, _STORE + column].copy()
            with np.errstate(divide="ignore", invalid="ignore"):  # how many stores have the feature, at least
                stores = np.where(maximum > 0, np.ceil(features[:, column] / maximum), 0)
            features[:, column] += shift * stores
            features[:, _STORE + column] += shift * (maximum > 0)
    return Known(known.machine, known.workload, Experience(list(features), known.experience.latencies))


def main(argv: Sequence[str] | None = None) -> int:
    """Train, predict, write the table and print it; exit status 1 with a message if that is impossible."""
    parser = command_line(__doc__)
    parser.add_argument("--directories", type=Path, nargs="+", metavar="DIR", default=DIRECTORIES)
    parser.add_argument("--orders", type=positive, default=5, help="models per row; default: 5")
    arguments = parser.parse_args(argv)
    return write_rows(lambda: rows(arguments.directories, arguments.orders), arguments.out / "experience.csv")


if __name__ == "__main__":
    sys.exit(main())
