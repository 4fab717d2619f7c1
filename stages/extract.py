"""Write every workload of conf/workload: its module, its text and its facts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from colt_pipeline import stack
from stages import run_stage

stack.require()

import tvm  # noqa: E402

from colt_pipeline.workloads.catalogue import build  # noqa: E402
from colt_pipeline.workloads.workload import Workload  # noqa: E402


def facts(workload: Workload) -> dict[str, object]:
    """What is known of a workload before tuning."""
    return {
        "name": workload.name,
        "shape": workload.shape,
        "hash": workload.hash,
        "flop": workload.flop,
        "rtol": workload.rtol,
        "parameters": [list(shape) for shape in workload.parameter_shapes],
        "dtype": "float32",
    }


def extract(conf: Path, out: Path) -> None:
    """One NAME.json (module), NAME.txt (TVMScript) and NAME.facts.json per file in `conf`."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(conf.glob("*.yaml")):
        config = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(config, dict)
        workload = build(config["name"], config["shape"])
        (out / f"{workload.name}.json").write_text(tvm.ir.save_json(workload.module) + "\n")
        (out / f"{workload.name}.txt").write_text(workload.text + "\n")
        (out / f"{workload.name}.facts.json").write_text(json.dumps(facts(workload), indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.extract --conf conf/workload --out results/workloads``."""
    return run_stage(extract, "conf", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
