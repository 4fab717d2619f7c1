"""TVM's builder and runner on top of this project's worker processes, which build and run, and check every result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir.meta_schedule.builder import BuilderInput, BuilderResult, PyBuilder
from tvm.s_tir.meta_schedule.runner import PyRunner, PyRunnerFuture, RunnerInput, RunnerResult

from colt_pipeline.records import Measurement
from colt_pipeline.strategy.tuning import Tuning, handed_over, owner


@derived_object
class Builder(PyBuilder):  # type: ignore[misc]
    """Hands programs over to `Runner`, whose workers build them."""

    def build(self, build_inputs: Sequence[BuilderInput]) -> list[BuilderResult]:
        """One artifact per program; it stands for the program and holds nothing."""
        return [_handed_over(build_input.mod) for build_input in build_inputs]


@derived_object
class Runner(PyRunner):  # type: ignore[misc]
    """Builds, runs and checks in this project's workers what `Builder` handed over, one kernel at a time."""

    def run(self, runner_inputs: Sequence[RunnerInput]) -> list[Any]:
        """The results, each of them known already.

        Raises:
            DeviceError, StackError: nothing can be measured here.
        """
        results: dict[str, RunnerResult] = {}
        wanted: dict[Tuning, dict[int, str]] = {}
        for path in (str(runner_input.artifact_path) for runner_input in runner_inputs):
            known = owner(Path(path))
            if known is None:
                said = "it does not come from colt_pipeline.strategy.Builder(); give builder=Builder() beside Runner()"
                results[path] = RunnerResult(None, said)
            else:
                tuning, number = known
                wanted.setdefault(tuning, {})[number] = path
        for tuning, paths in wanted.items():
            measured = tuning.measure(list(paths))
            results.update(zip(paths.values(), map(_result, measured), strict=True))
        return [_Known(results[str(runner_input.artifact_path)]) for runner_input in runner_inputs]


@derived_object
class _Known(PyRunnerFuture):  # type: ignore[misc]
    """A result that is there."""

    def __init__(self, result: RunnerResult) -> None:
        super().__init__()
        self._result = result

    def done(self) -> bool:
        return True

    def result(self) -> RunnerResult:
        return self._result


def _handed_over(module: tvm.IRModule) -> BuilderResult:
    artifact = handed_over(module)
    if artifact is None:
        said = "colt_pipeline.strategy.Builder() builds for strategy=Colt() alone; leave out builder and runner"
        return BuilderResult(None, said)
    return BuilderResult(str(artifact), None)


def _result(measurement: Measurement) -> RunnerResult:
    """A measurement as TVM takes it. Its database ranks by the mean, so it gets the median that the search goes by."""
    if measurement.latency_secs is None:
        return RunnerResult(None, f"{measurement.error}: {measurement.detail}")
    return RunnerResult([tvm.tirx.FloatImm("float64", measurement.latency_secs)], None)
