"""TVM's own door: this project's search as a strategy of MetaSchedule.

::

    from colt_pipeline.strategy import Builder, Colt, Runner

    database = ms.tune_tir(
        mod, target, work_dir, max_trials_global=32, num_trials_per_iter=8, cost_model="random",
        strategy=Colt(model_set="8"), builder=Builder(), runner=Runner(),
    )

The same goes for ``ms.tune_tasks`` and ``ms.relax_integration.tune_relax``. Import this module before the first call,
because it keeps TVM from parsing intrinsics that no CPU needs, which takes 15 to 30 s.

Each task is an ordinary run of a kernel of one's own, with a journal, a recording and a run directory; with equal
latencies, ``tune`` would measure the same programs. An interrupted tuning resumes when the same call is repeated.

Builder and Runner measure in this project's worker processes, which check every result. TVM's own (``"local"``) work,
too; what they measure stays in the run's recording and is not shared with other runs. Nothing is confirmed at the end
(``measure.confirm``), because TVM's database keeps every record and picks the best by itself.

With ``space.vector_math`` the workers compile by ``tvm.compile(module, target, tir_pipeline=vector_math.pipeline())``
(colt_pipeline.measurement.vector_math); so should whoever uses the database. TVM's own builder never does.

``space`` and ``cost_model`` of the call have no effect on the search, which has its own; ``cost_model="random"`` saves
the time that TVM would spend on training its own. ``Colt(space="tvm")`` or ``Colt(space="extended")`` chooses the
design space. TVM's database holds schedules of both, and ``compile_tir`` applies both.
"""

from colt_pipeline import stack

stack.require()  # before TVM is imported: a wrong tvm-ffi would crash the process

from colt_pipeline.space import intrinsics  # noqa: E402
from colt_pipeline.strategy.colt import Colt  # noqa: E402
from colt_pipeline.strategy.workers import Builder, Runner  # noqa: E402

intrinsics.register()

__all__ = ["Builder", "Colt", "Runner"]
