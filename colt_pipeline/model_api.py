"""Tune a whole model from Python."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colt_pipeline import stack

stack.require()  # before TVM is imported

import tvm  # noqa: E402
from tvm import relax  # noqa: E402

from colt_pipeline.errors import ConfigError  # noqa: E402
from colt_pipeline.from_python import configuration, file_stem, kernel_file  # noqa: E402
from colt_pipeline.measurement.vector_math import pipeline  # noqa: E402
from colt_pipeline.runs.layout import SOURCE, run_directory  # noqa: E402
from colt_pipeline.runs.rundir import read_json, write_bytes  # noqa: E402
from colt_pipeline.serialization import canonical_json  # noqa: E402
from colt_pipeline.whole_model.job import TunedKernels, tune  # noqa: E402
from colt_pipeline.whole_model.report import shown  # noqa: E402
from colt_pipeline.workloads.models.packages import required  # noqa: E402
from colt_pipeline.workloads.models.torch_programs import exported, quiet  # noqa: E402
from colt_pipeline.workloads.models.unscheduled import flat  # noqa: E402
from colt_pipeline.workloads.models.weights import transformed  # noqa: E402

if TYPE_CHECKING:
    import torch

_ALIGNMENT = 64
"""Bytes to which TVM's kernels expect tensors to be aligned."""


@dataclass(frozen=True, eq=False)
class TunedModel:
    """A model with tuned kernels: call it with the tensors that the model takes."""

    kernels: TunedKernels
    vector_math: bool
    run_directory: Path

    def __call__(self, *inputs: Any) -> Any:
        """Run the model.

        Args:
            inputs: tensors of PyTorch or arrays of NumPy on the CPU, of the shapes and types that it was tuned for;
                those that are contiguous and aligned are read in place.

        Returns:
            Its output, or a tuple of them, in memory of its own, as tensors if a tensor was given, else as arrays.

        Raises:
            ConfigError: the inputs are not what the model takes.
        """
        wanted = self.kernels.whole.model.inputs_of_main
        if len(inputs) != len(wanted):
            raise ConfigError(f"the model takes {len(wanted)} inputs, and {len(inputs)} were given")
        given = [_tvm_tensor(value) for value in inputs]
        for tensor, parameter in zip(given, wanted, strict=True):
            shape, dtype = tuple(int(n) for n in tensor.shape), str(tensor.dtype)
            if (shape, dtype) != (parameter.shape, parameter.dtype):
                raise ConfigError(
                    f"the input {parameter.name} has shape {shape} and type {dtype}; the model was tuned for "
                    f"{parameter.shape} and {parameter.dtype}"
                )
        outputs = flat(self._main(*given, *self.weights))
        as_torch = any(hasattr(value, "detach") for value in inputs)
        converted = [_torch_tensor(x) if as_torch else x.numpy() for x in outputs]
        return converted[0] if len(converted) == 1 else tuple(converted)

    def export(self, path: Path | str, mcpu: str | None = None) -> Path:
        """Write the model as a library with its weights and all that runs, checks and explains it.

        Args:
            path: a directory; an earlier export there is replaced.
            mcpu: compile for another CPU than the one it was tuned on, by LLVM's name.

        Returns:
            The directory.

        Raises:
            ColtError: it cannot be exported; the message says why.
        """
        from colt_pipeline.exports.write import export_run

        export_run(self.run_directory, Path(path), None, mcpu)
        return Path(path)

    @property
    def latency_secs(self) -> float:
        """Latency of one run, measured whole and checked against the framework the model is from."""
        return float(self.kernels.summary["tuned_secs"])

    @property
    def baseline_secs(self) -> float:
        """Latency of the untuned model; `summary` says whether it was measured whole or summed up."""
        return float(self.kernels.summary["unoptimized_secs"])

    @property
    def summary(self) -> dict[str, Any]:
        """The run in numbers, with a row for each kernel: seconds before and after."""
        return self.kernels.summary

    @cached_property
    def module(self) -> tvm.IRModule:
        """The Relax module with scheduled kernels: ``main``(inputs, `weights`)."""
        return self._ready.module

    @cached_property
    def weights(self) -> list[tvm.runtime.Tensor]:
        """The weights as `module` takes them, transposed, folded and packed."""
        whole = self.kernels.whole
        return list(transformed(self._ready.transforms, [*whole.model.weights(), *whole.values]))

    @cached_property
    def _ready(self) -> Any:
        return self.kernels.whole.ready(self.kernels.modules)

    @cached_property
    def _main(self) -> Any:
        target = tvm.target.Target(self.kernels.target)
        compiled = tvm.compile(self.module, target=target, tir_pipeline=pipeline(self.vector_math))
        return relax.VirtualMachine(compiled, tvm.cpu())["main"]


def tune_model(
    model: torch.nn.Module | torch.export.ExportedProgram | tvm.IRModule,
    example_inputs: Sequence[Any] = (),
    samples: int | None = 256,
    name: str | None = None,
    **overrides: Any,
) -> TunedModel:
    """Tune the kernels of a model for this machine's CPU, or continue, or replay.

    Progress is printed to stderr. Ctrl-C loses nothing: the same call goes on.

    Args:
        model: a module of PyTorch, an exported program, or a Relax module with its weights as constants.
        example_inputs: for a module of PyTorch, what it is exported with; its sizes are those of the run.
        samples: how many programs are measured, over all kernels; None = as many as fit into ``minutes``, or 48.
        name: what the run is called, followed by a digest of the model.
        overrides: keys of the configuration, as on the command line: ``prepack=True``, ``space="extended"``,
            ``minutes=60``, ``results="DIR"``, ``**{"workload.bind.batch": 8}``.

    Raises:
        ConfigError: the model or an override is refused; the message says why, and what to do.
        ColtError: as any run.
    """
    with tempfile.TemporaryDirectory(prefix="colt-") as directory:
        if isinstance(model, tvm.IRModule):
            source = kernel_file(Path(directory), name or "model", model)
        else:
            torch = required("torch", "torch", "tune_model")
            program = exported(model, example_inputs, "the model") if isinstance(model, torch.nn.Module) else model
            if not isinstance(program, torch.export.ExportedProgram):
                raise ConfigError(
                    f"model is of type {type(model).__name__}; give a torch.nn.Module, a torch.export.ExportedProgram "
                    "or a Relax module"
                )
            source = Path(directory) / f"{file_stem(name or type(model).__name__)}.pt2"
            with quiet():
                torch.export.save(program, str(source))
        given: dict[str, Any] = {"workload": "own_model", "workload.source": source, "samples": samples}
        if samples is None:
            del given["samples"]
        config = configuration({**given, **overrides})
        tuned = tune(config)
        print(shown(config, tuned.summary), flush=True)
        directory_of_run = run_directory(config.results, config.experiment, config.run).absolute()
        _keep(source, directory_of_run)
        return TunedModel(tuned, config.measure.vector_math, directory_of_run)


def _keep(source: Path, directory: Path) -> None:
    """Move the model's file into its run, for `TunedModel.export`."""
    kept = directory / source.name
    shutil.move(source, kept)
    known = read_json(directory / SOURCE)
    write_bytes(directory / SOURCE, (canonical_json({**known, "source": str(kept)}) + "\n").encode())


def _tvm_tensor(value: Any) -> tvm.runtime.Tensor:
    """A tensor or array of somebody else, in place if it is contiguous and aligned."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().contiguous()
        if value.data_ptr() % _ALIGNMENT:
            value = value.clone()
    elif hasattr(value, "ctypes"):
        if not value.flags.c_contiguous or value.ctypes.data % _ALIGNMENT or not value.flags.writeable:
            return tvm.runtime.tensor(value, tvm.cpu())
    return tvm.runtime.from_dlpack(value)


def _torch_tensor(value: tvm.runtime.Tensor) -> torch.Tensor:
    import torch

    return torch.from_dlpack(value)
