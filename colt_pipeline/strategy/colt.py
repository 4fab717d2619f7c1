"""The strategy that TVM calls."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate, PySearchStrategy
from tvm_ffi import register_error

from colt_pipeline import errors
from colt_pipeline.measurement.bench import last_line
from colt_pipeline.records import Measurement, MeasurementError
from colt_pipeline.strategy.tuning import Tuning, arguments

_log = logging.getLogger(__name__)

for _error in vars(errors).values():  # lets them pass through TVM unchanged
    if isinstance(_error, type) and issubclass(_error, errors.ColtError):
        register_error(_error.__name__, _error)


@derived_object
class Colt(PySearchStrategy):  # type: ignore[misc]
    """This project's search; see the package.

    Each task is searched by itself. What tasks know of the models is not shared as it is in ``tune_model``, so that the
    order in which TVM takes turns has no effect, and each run replays alone.
    """

    def __init__(self, model_set: str = "8", **overrides: Any) -> None:
        """Describe the search.

        Args:
            model_set: ``small``, ``large``, ``2``, ``4`` or ``8``.
            overrides: further keys of the configuration, such as ``search="paper"``, ``space="tvm"``, ``seed=1``,
                ``results="DIR"`` or ``**{"search.c": 1.0}``.
        """
        super().__init__()
        self._overrides = {"model_set": model_set, **overrides}
        self._tuning: Tuning | None = None

    def clone(self) -> Any:
        """A fresh strategy, for another task."""
        return Colt(**self._overrides)

    def _initialize_with_tune_context(self, context: ms.TuneContext) -> None:
        # Not the context itself: it owns this object, and TVM would never delete either.
        self._task = (str(context.task_name or "main"), context.mod, context.target)

    def pre_tuning(
        self,
        max_trials: int,
        num_trials_per_iter: int,
        design_spaces: Sequence[Any],
        database: ms.Database | None = None,
        cost_model: Any = None,
    ) -> None:
        """Begin a task; one that cannot be tuned is left as it is.

        Raises:
            ConfigError: the configuration, or a target that the search does not know.
        """
        name, module, target = self._task
        tuning = Tuning(name, module, target, database, max_trials, num_trials_per_iter, self._overrides)
        try:
            tuning.read_program(design_spaces)
        except errors.ConfigError as error:  # a model contains kernels of all kinds
            _log.warning("%s is not tuned: %s", name, error)
            tuning.close()
            return
        self._tuning = tuning

    def generate_measure_candidates(self) -> list[MeasureCandidate] | None:
        """The next programs to measure; None at the end.

        Raises:
            ColtError: the run cannot continue; it can be resumed.
        """
        schedules = None if self._tuning is None else self._tuning.next_batch()
        return schedules and [MeasureCandidate(schedule, arguments(schedule)) for schedule in schedules]

    def notify_runner_results(
        self, measure_candidates: Sequence[MeasureCandidate], results: Sequence[RunnerResult]
    ) -> None:
        """The measurements of these programs.

        Raises:
            ColtError: the run cannot continue; it can be resumed.
        """
        assert self._tuning is not None
        self._tuning.deliver([_measurement(result) for result in results])

    def post_tuning(self) -> None:
        """Write the outputs of the task's run."""
        if self._tuning is not None:
            self._tuning.finish()
            self._tuning = None


def _measurement(result: RunnerResult) -> Measurement:
    """What TVM's runner, or the builder before it, says about a program."""
    if result.error_msg is not None:
        said = str(result.error_msg)
        return Measurement(error=_kind(said), detail=last_line(RuntimeError(said)))
    run_secs = tuple(float(secs) for secs in result.run_secs or ())
    if not run_secs or not all(math.isfinite(secs) and secs > 0 for secs in run_secs):
        return Measurement(error="run_error", detail=f"the runner reports the run times {list(run_secs)}")
    return Measurement(run_secs)


def _kind(said: str) -> MeasurementError:
    """TVM tells errors apart by their text alone."""
    if "Timeout" in said:
        return "timeout"
    return "build_error" if "Builder" in said else "run_error"
