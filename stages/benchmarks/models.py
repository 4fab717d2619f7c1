"""Whole models, tuned by us, beside PyTorch, eager and compiled, and ONNX Runtime, on this machine's CPU.

ResNet-18, one encoder layer of BERT-base and one block of GPT-2 small, with random weights, for one picture or 128
tokens. With --tune each is tuned first, once per number of samples. All sides get the same inputs and number of
threads, and are checked against PyTorch. They are timed in one process per model in turn, with pauses and warm calls in
between (rounds.in_turn). Weights are packed ahead in our models, in compiled PyTorch and in ONNX Runtime. Of PyTorch's
layouts of pictures the fastest counts. Rows are on disk as soon as they are known.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from colt_pipeline.analysis.labels import backend_label
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.config.spaces import space_name
from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.from_python import configuration
from colt_pipeline.measurement.backend import Backend, local
from stages.benchmarks import Row, command_line, names, positive, write_csv, write_rows
from stages.benchmarks.frameworks.model_runs import summaries
from stages.benchmarks.frameworks.model_sitting import UNTUNED, compared, tuned
from stages.benchmarks.frameworks.sitting import COMPILED, EAGER, ONNX, Timed
from stages.benchmarks.rounds import own_process
from stages.benchmarks.tuned import keys

SOURCE = Path(__file__).parent / "frameworks" / "whole_models.py"
MODELS = ("resnet18", "bert_layer", "gpt2_block")
OTHERS = (EAGER, COMPILED, ONNX)
_PACKAGES = ("torch", "torchvision", "transformers", "onnx", "onnxscript", "onnxruntime")
_SHOWN = ("torch", "onnxruntime", "transformers")
"""Packages whose versions are in the table."""


def rows(
    out: Path,
    runs: Path,
    models: Sequence[str],
    rounds: int,
    tune: bool,
    samples: Sequence[int],
    overrides: Sequence[str],
) -> list[Row]:
    """One row per model; the table is written after each, its chart at the end.

    Raises:
        ConfigError: an unknown model, a missing package or compiler, or no finished run.
        DeviceError: a result is wrong, or a process crashed.
        ColtError: a model could not be tuned.
    """
    _check(models)
    backend = local(composed([]))
    configs = {name: {n: _run(runs, name, n, overrides) for n in sorted(samples)} for name in models}
    known = {name: summaries(list(of_model.values()), tune, backend) for name, of_model in configs.items()}
    made: list[Row] = []
    for name, of_model in configs.items():
        sides = _compared(name, of_model, runs, backend, rounds)
        made.append(row(name, sides, sorted(samples), known[name]) | _facts(known[name][-1], backend))
        write_csv(made, out / "models.csv")
        print(f"{name}: {made[-1][f'{tuned(max(samples))}_ms']} ms", file=sys.stderr, flush=True)
    _draw(made, max(samples), out)
    return made


def _check(models: Sequence[str]) -> None:
    if unknown := [name for name in models if name not in MODELS]:
        raise ConfigError(f"--models={unknown[0]} is unknown; choose from {', '.join(MODELS)}")
    if missing := [package for package in _PACKAGES if find_spec(package) is None]:
        raise ConfigError(f"{', '.join(missing)} not installed; pip install -c constraints.txt -e '.[models]'")
    if shutil.which("g++") is None:
        raise ConfigError("torch.compile needs g++, which is not installed")


def _run(runs: Path, name: str, samples: int, overrides: Sequence[str]) -> Config:
    """The run that tunes a model, as a user would, with weights packed ahead and the extended design space."""
    given: dict[str, Any] = {"workload": "own_model", "workload.source": SOURCE, "workload.function": name}
    given |= {"results": runs, "prepack": True, "space": "extended", "samples": samples, "device": "local"}
    return configuration(given | keys(overrides))


def _compared(name: str, configs: Mapping[int, Config], runs: Path, backend: Backend, rounds: int) -> dict[str, Timed]:
    """A comparison in a fresh process, which may crash or change its settings."""
    with own_process() as process:
        try:
            arguments = (configs, runs / "scratch", backend.target, backend.device.lock, rounds)
            return process.submit(compared, *arguments).result()
        except BrokenProcessPool as error:
            raise DeviceError(
                f"the process that compares {name} crashed; what was compared before is written, and --models chooses "
                "the others"
            ) from error


def row(name: str, sides: Mapping[str, Timed], samples: Sequence[int], summaries: Sequence[Mapping[str, Any]]) -> Row:
    """Times, ratios and errors of one model."""
    ours = sides[tuned(samples[-1])]
    made: Row = {"model": name}
    made |= {f"{side}_ms": float(f"{1e3 * each.secs:.5g}") for side, each in sides.items()}
    made |= {f"{side}/{tuned(samples[-1])}": round(sides[side].secs / ours.secs, 3) for side in OTHERS}
    made |= {f"{side}_layout": sides[side].label for side in (EAGER, COMPILED)}
    made |= {f"{side}_error": float(f"{each.error:.2g}") for side, each in sides.items()}
    return made | {"samples": ", ".join(str(summary["samples"]) for summary in summaries)}


def _facts(summary: Mapping[str, Any], backend: Backend) -> Row:
    """What a row says besides times."""
    facts: Row = {"space": space_name(summary.get("space", ())), "search": summary["search"]}
    facts |= {"llm": backend_label(summary["llm_backend"]), "threads": backend.target["num-cores"]}
    return {**facts, "device": backend.device.facts["cpu"], **{package: version(package) for package in _SHOWN}}


def _draw(made: Sequence[Row], samples: int, out: Path) -> None:
    from stages.benchmarks.frameworks.model_chart import draw  # takes seconds to import

    others = [column.removesuffix("_ms") for column in made[0] if column.endswith("_ms")]
    draw(made, [side for side in others if side not in (UNTUNED, tuned(samples))], tuned(samples), out / "models")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(positive, names(text)))


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.models --tune --out results/benchmark``."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--runs", type=Path, default=Path("build/models"), help="directory with finished runs below")
    add("--models", type=names, default=MODELS, help="comma-separated; default: all")
    add("--rounds", type=positive, default=15, help="measurements of each")
    add("--tune", action="store_true", help="tune what has not been tuned below --runs, or resume that")
    add("--samples", type=_numbers, default=(128, 512), help="programs that each run measures, comma-separated")
    add("overrides", nargs="*", help="of the runs, such as seed=1; the same with and without --tune")
    given = parser.parse_args(argv)
    chosen = (given.out, given.runs, given.models, given.rounds, given.tune, given.samples, given.overrides)
    return write_rows(lambda: rows(*chosen), given.out / "models.csv")


if __name__ == "__main__":
    sys.exit(main())
