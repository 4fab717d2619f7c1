"""TVM's target as this project's configuration."""

from __future__ import annotations

from typing import Any

import tvm

from colt_pipeline.errors import ConfigError
from colt_pipeline.measurement.devices import host_cpu


def overrides(target: tvm.target.Target) -> dict[str, Any]:
    """The keys of conf/target that describe `target`.

    Raises:
        ConfigError: it is not a CPU, or has attributes that the search does not know.
    """
    attributes = {str(name): value for name, value in target.attrs.items()}
    if attributes.get("mtriple") == tvm.target.Target("llvm").attrs.get("mtriple"):
        attributes.pop("mtriple", None)  # TVM adds this machine's
    here = host_cpu().facts
    example = f'{{"kind": "llvm", "mcpu": "{here["mcpu"]}", "num-cores": {here["threads"]}}}'
    if target.kind.name != "llvm" or attributes.keys() != {"mcpu", "num-cores"}:
        given = ", ".join([str(target.kind.name), *(f"{name}={value}" for name, value in sorted(attributes.items()))])
        raise ConfigError(
            f"strategy=Colt tunes for CPUs, whose target has mcpu and num-cores and no other attribute; it is {given}. "
            f"For this machine give target={example}"
        )
    return {"target": "cpu", "target.cores": int(attributes["num-cores"]), "target.mcpu": str(attributes["mcpu"])}
